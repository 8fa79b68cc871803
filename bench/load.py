"""A load of an app that keeps what became of every request.

Open loop: each request leaves at its own time, whatever became of those before, so a server that
stalls meets the requests that real visitors would have sent meanwhile. No request is tried again.
"""

import argparse
import asyncio
import json
import random
import re
import signal
import ssl
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

# What httpx stands on: its comforts cost more than a request.
import httpcore

# Kinds of request and their shares. Those on HTTP/1.1 keep their connections unless they say so.
SHARES = {
    "page": 0.40,
    "page, HTTP/2": 0.20,
    "page, new connection": 0.05,
    "form": 0.15,
    "form, HTTP/2": 0.05,
    "static file of an earlier page": 0.15,
}
# Beside those, since they would fill every thread of the server.
SLOW_EVERY_SECONDS = 8.0
# An hour-old tab is not what this is about: the files of this many releases are asked for.
REMEMBERED_FILES = 4
REQUESTS_PER_CONNECTION = 900
TIMEOUT_SECONDS = 75
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Request:
    """What became of one request; times in seconds since the epoch."""

    kind: str
    start: float
    end: float
    outcome: str
    id: str = ""


class Load:
    """Requests at a steady rate until told to stop."""

    def __init__(self, url: str, ca: Path, rate: float, slow_seconds: float) -> None:
        """
        Prepare the connections.

        Parameters
        ----------
        url : str
            Address of the site, without a path.
        ca : pathlib.Path
            Certificates to trust.
        rate : float
            Requests per second, without the slow ones.
        slow_seconds : float
            How long a slow request takes at the server, in seconds; 0 for none of them.
        """
        self.rate, self.slow_seconds = rate, slow_seconds
        site = urlsplit(url)
        # Browsers and curl take such names for the loopback, whatever a resolver says (RFC 6761).
        local = (site.hostname or "").endswith(".localhost")
        self.address = f"{site.scheme}://{'127.0.0.1' if local else site.hostname}"
        self.address += f":{site.port}" if site.port else ""
        self.headers = {"Host": site.netloc}
        self.extensions = {
            "sni_hostname": site.hostname,
            "timeout": dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_SECONDS),
        }
        self.options = {
            "ssl_context": ssl.create_default_context(cafile=str(ca)),
            "max_connections": None,
            "max_keepalive_connections": 50,
            "keepalive_expiry": 5,
        }
        self.http1 = self.shared = httpcore.AsyncConnectionPool(**self.options)
        self.left, self.pools = 0, [self.http1]
        self.files: list[str] = []
        self.stopping = asyncio.Event()
        self.random = random.Random(1)  # noqa: S311  # a mix of requests, no secret

    async def run(self, keep: Callable[[Request], None]) -> None:
        """Send requests until `stopping` is set, and wait for those in flight."""
        tasks: set[asyncio.Task[None]] = set()

        def send(kind: str) -> None:
            task = asyncio.create_task(self._send(kind, keep))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        began = time.monotonic()
        sent = slow = 0
        kinds, weights = list(SHARES), list(SHARES.values())
        while not self.stopping.is_set():
            due = (time.monotonic() - began) * self.rate
            while sent < due:
                send(self.random.choices(kinds, weights)[0])
                sent += 1
            if self.slow_seconds and time.monotonic() - began > slow * SLOW_EVERY_SECONDS:
                send("slow, HTTP/2" if slow % 2 else "slow")
                slow += 1
            await asyncio.sleep(max(0.0, began + sent / self.rate - time.monotonic()))
        await asyncio.gather(*tasks)

    async def _send(self, kind: str, keep: Callable[[Request], None]) -> None:
        """Send one request and keep what became of it."""
        start, marker = time.time(), ""
        pool = self._http2(slow=kind.startswith("slow")) if "HTTP/2" in kind else self.http1
        method, path, headers, form = "GET", "/", {}, None
        if kind.startswith("form"):
            marker = str(uuid.uuid4())
            method, path, headers, form = "POST", "/entries", FORM, f"id={marker}".encode()
        elif kind.startswith("slow"):
            path = f"/slow?seconds={self.slow_seconds}"
        elif kind.startswith("static") and self.files:
            path = self.random.choice(self.files)
        elif "new" in kind:
            headers = {"Connection": "close"}
        try:
            answer = await pool.request(
                method,
                self.address + path,
                headers=self.headers | headers,
                content=form,
                extensions=self.extensions,
            )
            if path == "/":
                self._remember(answer.content.decode())
            outcome = "ok" if answer.status < 400 else f"status {answer.status}"
        # Whatever it was: a request that is not kept would not be missed.
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        keep(Request(kind, start, time.time(), outcome, marker))

    def _http2(self, slow: bool) -> httpcore.AsyncConnectionPool:
        """Give a pool whose connection is not about to end, a slow request one of its own.

        nginx ends one after `keepalive_requests` (1000) in good order: what is in flight still gets
        its answer. Browsers wait for those; this library gives them up. Its requests also take
        turns at reading from their connection, so one that waits for long holds up the others.
        """
        if not slow and self.left:
            self.left -= 1
            return self.shared
        pool = httpcore.AsyncConnectionPool(http1=False, http2=True, **self.options)
        self.pools.append(pool)
        if not slow:
            self.shared, self.left = pool, REQUESTS_PER_CONNECTION - 1
        return pool

    def _remember(self, page: str) -> None:
        """Note the static files that a page asks for."""
        for path in re.findall(r'href="(/static/[^"]+)"', page):
            if path not in self.files:
                self.files = [*self.files, path][-REMEMBERED_FILES:]


async def _run(options: argparse.Namespace) -> None:
    load = Load(options.url, options.ca, options.rate, options.slow_seconds)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, load.stopping.set)
    loop.call_later(options.seconds, load.stopping.set)
    with options.out.open("w", buffering=1) as out:
        await load.run(lambda request: out.write(json.dumps(asdict(request)) + "\n") and None)
    for pool in load.pools:
        await pool.aclose()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--ca", type=Path, required=True, help="certificates to trust")
    parser.add_argument("--rate", type=float, default=100, help="requests per second")
    parser.add_argument("--slow-seconds", type=float, default=20, help="of a slow request")
    parser.add_argument("--seconds", type=float, default=7200, help="at most")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON per request")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
