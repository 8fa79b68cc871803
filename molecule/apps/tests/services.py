"""Services beside apps, and what apps reach outside: one has a way out, the other has none."""

import json
import os
import re
from pathlib import Path

import apps
import pytest
from conftest import Site, eventually

METADATA = "169.254.169.254"
CLOSED = "EHOSTUNREACH"


def reach(site: Site, app: str, host: str, port: int) -> str:
    """Let an app connect, and return `open` or the name of the error."""
    return apps.ask(site, app, f"/reach/{host}/{port}").body


def address(site: Site, container: str, network: str) -> str:
    """Return the address of a container in a network."""
    networks = site.containers()[container]["NetworkSettings"]["Networks"]
    return networks[network]["IPAddress"]


def mirror(site: Site) -> tuple[str, int]:
    """Return a server on the internet that answers: the one that apt uses."""
    find = "grep -rhoE 'https?://[^/ ]+' /etc/apt/sources.list /etc/apt/sources.list.d || true"
    scheme, host = site.on_server("sh", "-c", find).split()[0].split("://")
    name, _, port = host.partition(":")
    return name, int(port or (443 if scheme == "https" else 80))


def test_a_worker_does_what_the_app_has_queued(site: Site) -> None:
    name = apps.ask(site, "queue", "/double/21", "POST").body

    def done() -> None:
        assert apps.ask(site, "queue", f"/result/{name}").body == "42"

    eventually(done)


def test_a_cache_is_a_second_service(site: Site) -> None:
    assert apps.ask(site, "queue", "/cache/milk").body == "milk"


def test_two_apps_share_one_service_and_reach_nothing_else_of_each_other(site: Site) -> None:
    before = int(apps.ask(site, "queue", "/count", "POST").body)
    assert int(apps.ask(site, "board", "/count", "POST").body) == before + 1
    assert int(apps.ask(site, "queue", "/count", "POST").body) == before + 2
    assert "board-valkey-valkey-1" not in site.containers()
    # The app of the other side is closed, although both are beside the same service.
    other = address(site, apps.web(site, "queue"), "queue-backend")
    assert reach(site, "board", other, 3031) not in ("open", "ECONNREFUSED")
    # Negative control: the port is open in the app's own network.
    assert reach(site, "queue", other, 3031) == "open"


def test_an_app_reaches_the_internet_unless_its_entry_forbids_it(site: Site) -> None:
    assert reach(site, "queue", *mirror(site)) == "open"
    assert reach(site, "board", *mirror(site)) != "open"


def test_an_app_with_a_way_out_reaches_nothing_private(site: Site) -> None:
    inside = [c for c in site.containers() if not c.startswith("queue-")]
    private = {METADATA}
    for container in inside:
        networks = site.containers()[container]["NetworkSettings"]["Networks"].values()
        private |= {network["IPAddress"] for network in networks}
    found = json.loads(site.on_server("ip", "-json", "-4", "address", "show", "up"))
    own = {a["local"] for link in found for a in link["addr_info"]} - {"127.0.0.1"}
    route = json.loads(site.on_server("ip", "-json", "-4", "route", "show", "default"))[0]
    targets = [
        (host, port) for host in (private | own | {route["gateway"]}) - {""} for port in (22, 80)
    ]
    assert len(targets) > 10
    # The shared Valkey is in the app's own network, too, under another address.
    answers = {target: reach(site, "queue", *target) for target in targets}
    # A port that Docker publishes may be dropped before it is refused.
    assert {t: answer for t, answer in answers.items() if answer not in (CLOSED, "timeout")} == {}
    assert CLOSED in answers.values()


def test_neither_services_nor_databases_have_a_way_out(site: Site) -> None:
    host, port = mirror(site)
    look = f"exec 3<>/dev/tcp/{host}/{port}"
    for container in ("queue-valkey-valkey-1", "board-clock-clock-1", "shortener-db-db-1"):
        done = site.on_server("sh", "-c", f"docker exec {container} bash -c '{look}' 2>&1; echo $?")
        assert done.splitlines()[-1] != "0", container
    # Negative control: the same command succeeds on the server.
    site.on_server("bash", "-c", look)


def test_no_password_shows_where_an_operator_looks(site: Site) -> None:
    secret = (Path(os.environ["SITE_SECRETS"]) / "scenario").read_text().strip()
    shown = site.on_server("sh", "-c", "docker ps -aq | xargs docker inspect; ps -ef")
    assert "/run/secrets/VALKEY_PASSWORD" in shown
    assert secret not in shown
    folder = "/opt/flask-vps/apps/queue/services"
    modes = site.on_server("find", folder, "-path", "*/secrets/*", "-printf", "%m %U %f\\n")
    assert sorted(modes.splitlines()) == ["400 999 VALKEY_PASSWORD", "400 999 settings"]


def test_a_service_runs_closed_in(site: Site) -> None:
    config = site.containers()["queue-valkey-valkey-1"]["HostConfig"]
    assert config["ReadonlyRootfs"] and config["CapDrop"] == ["ALL"] and not config["CapAdd"]
    assert config["Memory"] == 128 * 2**20
    refused = site.on_server("docker", "exec", "queue-valkey-valkey-1", "valkey-cli", "ping")
    assert "NOAUTH" in refused


def test_data_outlive_the_container(site: Site) -> None:
    before = int(apps.ask(site, "queue", "/count", "POST").body)
    site.on_server("docker", "restart", "queue-valkey-valkey-1")

    def counted() -> None:
        assert apps.ask(site, "queue", "/count", "POST").body == str(before + 1)

    eventually(counted)


def test_any_image_gets_its_secrets_its_volume_and_its_user(site: Site) -> None:
    container = "board-clock-clock-1"
    environ = site.on_server("docker", "exec", container, "cat", "/proc/1/environ").split("\0")
    assert "ZONE=a$HOME" in environ
    assert any(re.match("SECRET_KEY=.", line) for line in environ)
    assert site.on_server("docker", "exec", container, "id", "-u").strip() == "1234"
    site.on_server("docker", "exec", container, "touch", "/var/clock/file")
    with pytest.raises(AssertionError, match="Read-only"):
        site.on_server("docker", "exec", container, "touch", "/file")
