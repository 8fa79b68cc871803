"""Fixtures: the site as visitors see it, and the server's containers as operators see them."""

import dataclasses
import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest


@dataclasses.dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: str


@dataclasses.dataclass
class Site:
    """A deployed site on a throwaway server, reached through ports of this machine."""

    domain: str
    http_port: int
    https_port: int
    ca: Path
    server: str

    def connect(self, host: str | None = None, ca: Path | None = None) -> HTTPSConnection:
        """Open a TLS connection with `host` as server name; it trusts only the test CA."""
        context = ssl.create_default_context(cafile=str(ca or self.ca))
        connection = HTTPSConnection(host or self.domain, self.https_port, timeout=70)
        raw = socket.create_connection(("127.0.0.1", self.https_port), timeout=70)
        connection.sock = context.wrap_socket(raw, server_hostname=host or self.domain)
        return connection

    def request(
        self,
        path: str = "/",
        method: str = "GET",
        body: str | None = None,
        headers: dict[str, str] | None = None,
        host: str | None = None,
    ) -> Answer:
        """Send a request over HTTPS."""
        connection = self.connect()
        named = {"Host": host or f"{self.domain}:{self.https_port}", **(headers or {})}
        connection.request(method, path, body=body, headers=named)
        return _answer(connection.getresponse())

    def named(self, domain: str) -> "Site":
        """Return another site on the same server."""
        return dataclasses.replace(self, domain=domain)

    def served(self, domain: str) -> bool:
        """Tell whether a host name is served over HTTPS."""
        try:
            return self.named(domain).request().status < 500
        except (OSError, HTTPException):
            return False

    def request_plain(self, path: str = "/", host: str | None = None) -> Answer:
        """Send a request over plain HTTP."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        connection.request("GET", path, headers={"Host": host or self.domain})
        return _answer(connection.getresponse())

    def on_server(self, *command: str) -> str:
        """Run a command on the server and return what it prints."""
        done = subprocess.run(
            ["docker", "exec", self.server, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """Inspect the running containers of the server, by name."""
        # Some may end between the two commands; inspect still shows the others, but exits non-zero.
        ask = "docker ps --quiet | xargs docker inspect || test $? = 123"
        return {c["Name"].lstrip("/"): c for c in json.loads(self.on_server("sh", "-c", ask))}

    def container(self, part: str) -> str:
        """Return the name of the only running container whose name contains `part`."""
        names = [name for name in self.containers() if part in name]
        assert len(names) == 1, names
        return names[0]


def _answer(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read().decode(errors="replace"))


def eventually(check: Callable[[], Any], seconds: float = 60) -> Any:
    """Repeat a check until it passes, and return its result; on timeout, raise its last error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (AssertionError, OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.fixture(scope="session")
def site() -> Site:
    """The site under test, as described by environment variables."""
    found = Site(
        domain=os.environ["SITE_DOMAIN"],
        http_port=int(os.environ["SITE_HTTP_PORT"]),
        https_port=int(os.environ["SITE_HTTPS_PORT"]),
        ca=Path(os.environ["SITE_CA"]),
        server=os.environ["SITE_SERVER"],
    )

    # After a reboot the containers need some time to start.
    def served() -> None:
        assert found.request().status == 200

    eventually(served, seconds=120)
    return found


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the containers' logs and the engine's journal to the report of a failure."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        server = os.environ["SITE_SERVER"]
        script = (
            "for c in $(docker ps -aq); do docker inspect -f '== {{.Name}} {{.State.Status}}' $c;"
            " docker logs --tail 25 $c 2>&1; done;"
            " journalctl -u docker -u flask-vps-watchdog -n 20 --no-pager"
        )
        logs = subprocess.run(
            ["docker", "exec", server, "sh", "-c", script],
            capture_output=True,
            text=True,
            check=False,
        )
        report.sections.append(("the server", logs.stdout))
