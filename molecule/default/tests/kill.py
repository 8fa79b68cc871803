"""Kill the main process of each container; the site must come back. Run by name."""

import pytest
from conftest import Site, eventually

PARTS = ["edge-nginx", "edge-docker-gen", "edge-acme-companion", "-db-db-", "-web-", "-vhost-"]


@pytest.mark.parametrize("part", PARTS)
def test_killed_container_comes_back(site: Site, part: str) -> None:
    name = site.container(part)
    before = site.containers()[name]
    # As a crash does it, from outside; `docker kill` counts as the operator's own stop.
    site.on_server("kill", "-9", str(before["State"]["Pid"]))

    def served_again() -> None:
        running = site.containers()
        assert name in running
        after = running[name]
        assert after["State"]["Pid"] not in (0, before["State"]["Pid"])
        assert after["RestartCount"] > before["RestartCount"]
        assert after["State"].get("Health", {}).get("Status", "healthy") == "healthy"
        assert site.request("/readyz").status == 200

    eventually(served_again, seconds=60)
