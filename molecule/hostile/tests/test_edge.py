"""The edge: visitors are served while domains change, releases drain and containers crash."""

import asyncio
import json
import os
import ssl
import subprocess
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

import hostile
from conftest import Site, eventually

MORE = "probe-more.localhost"
ROOT = Path(__file__).parents[3]
REQUESTS_PER_SECOND = 10


class Visitors(threading.Thread):
    """Requests over new TLS connections at a steady rate, until told to stop."""

    def __init__(self, site: Site, path: str = "/health") -> None:
        super().__init__(daemon=True)
        self.site, self.path = site, path
        self.stopping = threading.Event()
        # The start of each request, in seconds since the epoch, and its status or error.
        self.outcomes: list[tuple[float, str]] = []

    async def _visit(self, tls: ssl.SSLContext) -> None:
        start = time.time()
        try:
            async with asyncio.timeout(60):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.site.https_port, ssl=tls, server_hostname=self.site.domain
                )
                host = f"{self.site.domain}:{self.site.https_port}"
                writer.write(f"GET {self.path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                outcome = (await reader.readline()).decode().partition(" ")[2].strip() or "closed"
                await reader.read()
                writer.close()
        except (OSError, TimeoutError) as error:
            outcome = f"{type(error).__name__}: {error}"
        self.outcomes.append((start, outcome))

    async def _visit_all(self) -> None:
        tls = ssl.create_default_context(cafile=str(self.site.ca))
        async with asyncio.TaskGroup() as group:
            while not self.stopping.is_set():
                group.create_task(self._visit(tls))
                await asyncio.sleep(1 / REQUESTS_PER_SECOND)

    def run(self) -> None:
        """Send them."""
        asyncio.run(self._visit_all())

    def __enter__(self) -> "Visitors":
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending, and wait for requests in flight."""
        self.stopping.set()
        self.join()

    def failed(self) -> list[tuple[float, str]]:
        """List the failed requests."""
        return [one for one in self.outcomes if not one[1].startswith("200")]


class Patient(threading.Thread):
    """One long request after the other, so that one is open at every switch of releases."""

    def __init__(self, site: Site, seconds: float) -> None:
        super().__init__(daemon=True)
        self.site, self.seconds = site, seconds  # a float, as the app's route requires
        self.stopping = threading.Event()
        self.statuses: list[Any] = []

    def run(self) -> None:
        """Send them."""
        while not self.stopping.is_set():
            try:
                self.statuses.append(self.site.request(f"/slow/{self.seconds}").status)
            except (OSError, HTTPException) as error:
                self.statuses.append(error)

    __enter__, __exit__ = Visitors.__enter__, Visitors.__exit__


def deploy(**values: Any) -> subprocess.CompletedProcess[str]:
    """Deploy the app that has its own Dockerfile."""
    inventories = [f"--inventory={path}" for path in os.environ["SITE_INVENTORIES"].split(",")]
    return subprocess.run(
        [
            "ansible-playbook", *inventories, "playbooks/deploy.yml",
            "-e", "app=probe_http", "-e", json.dumps(values),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def holders(site: Site) -> list[str]:
    """List the containers that hold the app's host names."""
    return [name for name in site.containers() if name.startswith("probe_http-vhost-")]


def test_a_domain_comes_and_goes_while_the_site_is_served(site: Site) -> None:
    app = site.named(hostile.PROBE_HTTP)
    before = holders(site)
    try:
        # With an open request, the old release's relay is draining during its health checks, too.
        with Visitors(app) as visitors, Patient(app, 15.0) as patient:
            done = deploy(
                scenario_more_domains=[MORE], scenario_environment={"GREETING": str(time.time())}
            )
        assert done.returncode == 0, done.stdout[-5000:]
        assert visitors.failed() == []
        assert set(patient.statuses) == {200}
        assert site.served(MORE)
        assert len(holders(site)) == 1
        assert holders(site) != before
    finally:
        with Visitors(app) as visitors:
            done = deploy()
    assert done.returncode == 0, done.stdout[-5000:]
    assert visitors.failed() == []
    assert holders(site) == before
    assert not site.served(MORE)
    volume = "/var/lib/docker/volumes/edge_vhost/_data"
    assert MORE not in site.on_server("ls", volume)


def test_a_crash_of_the_container_with_the_host_names_is_short(site: Site) -> None:
    [name] = holders(site)
    pid = site.containers()[name]["State"]["Pid"]

    def runs_again() -> None:
        assert site.containers()[name]["State"]["Pid"] not in (0, pid)

    with Visitors(site.named(hostile.PROBE_HTTP)) as visitors:
        site.on_server("kill", "-9", str(pid))
        eventually(runs_again)
        time.sleep(3)
    failed = [moment for moment, _ in visitors.failed()]
    assert not failed or max(failed) - min(failed) < 3


def test_an_app_s_own_image_cannot_configure_the_edge(site: Site) -> None:
    name = next(n for n in site.containers() if n.startswith("probe_http-") and "-web-" in n)
    container = site.containers()[name]["Config"]
    assert [one for one in container["Env"] if "VIRTUAL_HOST" in one] == ["VIRTUAL_HOST="]

    def claimed() -> bool:
        file = "/var/lib/docker/volumes/edge_conf/_data/default.conf"
        return "/claimed" in site.on_server("cat", file)

    def claims(wanted: bool) -> None:
        assert claimed() == wanted

    claims(False)
    # Negative control: the same image, run by hand, does claim its host name.
    run = ["docker", "run", "--detach", "--rm", "--name", "naive", "--network", "none"]
    site.on_server(*run, container["Image"], "sleep", "60")
    try:
        eventually(lambda: claims(True), seconds=20)
    finally:
        site.on_server("docker", "rm", "--force", "naive")
    eventually(lambda: claims(False), seconds=20)
