"""A load generator that records the outcome of every request.

It is an open loop: requests are sent at a fixed rate, independent of earlier responses, so a server
that stalls still gets the requests that real visitors would send. No request is retried.
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
from typing import Any
from urllib.parse import urlsplit

# The library below httpx, because the overhead of httpx is larger than that of a request.
import httpcore

# Kinds of requests and their shares. HTTP/1.1 connections stay open, except for "new connection".
SHARES = {
    "page": 0.40,
    "page, HTTP/2": 0.20,
    "page, new connection": 0.05,
    "form": 0.15,
    "form, HTTP/2": 0.05,
    "static file of an earlier page": 0.15,
}
# Slow requests are not part of the shares, because they would occupy all threads of the server.
SLOW_EVERY_SECONDS = 8.0
# Requests for static files use those of this many recent releases; older pages are not simulated.
REMEMBERED_FILES = 4
REQUESTS_PER_CONNECTION = 900
TIMEOUT_SECONDS = 75
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Request:
    """The outcome of one request; times in seconds since the epoch."""

    kind: str
    start: float
    end: float
    outcome: str
    id: str = ""


class _Frames(httpcore.AsyncNetworkStream):
    """
    A connection for one HTTP/2 request, without the frames that announce its graceful end.

    A server that closes a connection, as nginx does at a reload, sends GOAWAY and still answers
    requests in flight (RFC 9113, section 6.8). Browsers wait for that, but this library does not.
    """

    HEAD, GOAWAY = 9, 7

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self.stream, self.buffer = stream, b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while True:
            data = await self.stream.read(max_bytes, timeout)
            self.buffer += data
            frames = b""
            while len(self.buffer) >= self.HEAD:
                length = self.HEAD + int.from_bytes(self.buffer[:3])
                if len(self.buffer) < length:
                    break
                frame, self.buffer = self.buffer[:length], self.buffer[length:]
                # The last four bytes of its fixed part are an error code.
                is_graceful = frame[3] == self.GOAWAY and not any(frame[13:17])
                frames += b"" if is_graceful else frame
            if frames or not data:
                return frames

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self.stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self.stream.aclose()

    async def start_tls(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _Frames(await self.stream.start_tls(*arguments, **options))

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


class _Backend(httpcore.AnyIOBackend):
    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _Frames(await super().connect_tcp(*arguments, **options))


class Load:
    """Requests at a steady rate until it is stopped."""

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
            Duration of a slow request on the server in seconds; 0 for no slow requests.
        """
        self.rate, self.slow_seconds = rate, slow_seconds
        site = urlsplit(url)
        # Like browsers and curl: these names are the loopback, independent of DNS (RFC 6761).
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
        """Send one request and record its outcome."""
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
        # Any exception counts as a failure; without a record, the request would go unnoticed.
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        keep(Request(kind, start, time.time(), outcome, marker))

    def _http2(self, slow: bool) -> httpcore.AsyncConnectionPool:
        """Return a pool whose connection is not about to close; a slow request gets its own.

        nginx closes a connection gracefully after `keepalive_requests` (1000). Requests in this
        library take turns at reading from a connection, so a slow one would delay the others.
        """
        if not slow and self.left:
            self.left -= 1
            return self.shared
        more = {"network_backend": _Backend()} if slow else {}
        pool = httpcore.AsyncConnectionPool(http1=False, http2=True, **more, **self.options)
        self.pools.append(pool)
        if not slow:
            self.shared, self.left = pool, REQUESTS_PER_CONNECTION - 1
        return pool

    def _remember(self, page: str) -> None:
        """Remember the static files that a page links to."""
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
    """Run the load from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--ca", type=Path, required=True, help="certificates to trust")
    parser.add_argument("--rate", type=float, default=100, help="requests per second")
    parser.add_argument("--slow-seconds", type=float, default=20, help="duration of a slow request")
    parser.add_argument("--seconds", type=float, default=7200, help="stop after this time")
    parser.add_argument("--out", type=Path, required=True, help="gets a line of JSON per request")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
