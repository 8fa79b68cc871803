"""Containers reach neither the server nor the private networks around it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import hostile
import pytest
from conftest import Site

# Prints for each address whether a connection is `open`, or the name of the error.
KNOCK = """
import errno, json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def knock(target):
    try:
        socket.create_connection(target, timeout=3).close()
        return "open"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
with ThreadPoolExecutor(AT_ONCE) as pool:
    answers = pool.map(knock, TARGETS)
print(json.dumps({f"{host} {port}": answer for (host, port), answer in zip(TARGETS, answers)}))
"""
TABLE = ("inet", "flask_vps")
METADATA = "169.254.169.254"
# Ports on which the server may listen: sshd, the edge, the Docker API.
PORTS = (22, 80, 443, 2375)


def knock(targets: list[tuple[str, int]], at_once: int = 1) -> str:
    return f"TARGETS = {targets!r}\nAT_ONCE = {at_once}\n{KNOCK}"


def own_addresses(site: Site) -> list[str]:
    found = json.loads(site.on_server("ip", "-json", "-4", "address", "show", "up"))
    addresses = [a["local"] for link in found for a in link["addr_info"]]
    return [address for address in addresses if not address.startswith("127.")]


def gateway_of(site: Site, network: str) -> str:
    template = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    return site.on_server("docker", "network", "inspect", "-f", template, network).split()[0]


def from_default_network(site: Site, targets: list[tuple[str, int]]) -> dict[str, str]:
    """Try connections from Docker's default network, which builds use."""
    images = [c["Config"]["Image"] for n, c in site.containers().items() if "probe-" in n]
    image = next(image for image in images if image.startswith("flask-vps/probe:"))
    run = ["docker", "run", "--rm", "--network", "bridge", "--entrypoint", "python3", image, "-c"]
    return json.loads(site.on_server(*run, knock(targets)))


@contextmanager
def table_away(site: Site) -> Iterator[None]:
    """Remove our nftables table, and let the watchdog restore it."""
    site.on_server("systemctl", "stop", "flask-vps-watchdog.timer")
    site.on_server("nft", "delete", "table", *TABLE)
    try:
        yield
    finally:
        site.on_server("systemctl", "start", "flask-vps-watchdog.service")
        site.on_server("systemctl", "start", "flask-vps-watchdog.timer")


@pytest.mark.parametrize("domain", [hostile.PROBE, hostile.PROBE_HTTP])
def test_an_app_reaches_nothing_of_the_server(site: Site, domain: str) -> None:
    hosts = [*own_addresses(site), METADATA]
    targets = [(host, port) for host in hosts for port in PORTS]
    # The kernel limits its refusals per second, so some end as `timeout`. One after the other they
    # would take longer than a server lets a request take.
    answers = json.loads(hostile.run_inside(site, knock(targets, at_once=32), domain))
    # ECONNREFUSED would be a response of the server, too.
    reached = {k: v for k, v in answers.items() if v in ("open", "ECONNREFUSED")}
    assert len(answers) == len(targets) and reached == {}


def test_the_servers_own_ports_are_what_the_table_closes(site: Site) -> None:
    """Negative control: sshd listens there, and an app reaches it without our table."""
    gateway = gateway_of(site, "probe-backend")
    assert "open" in site.on_server("python3", "-c", knock([(gateway, 22)]))
    with table_away(site):
        assert "open" in hostile.run_inside(site, knock([(gateway, 22)]))
    # The watchdog has restored the table.
    assert "EHOSTUNREACH" in hostile.run_inside(site, knock([(gateway, 22)]))
    assert site.request().status == 200


def test_the_table_closes_private_networks_to_an_app_with_a_way_out(site: Site) -> None:
    route = json.loads(site.on_server("ip", "-json", "-4", "route", "show", "default"))[0]
    targets = [(route["gateway"], 22), (METADATA, 80)]
    closed = json.loads(hostile.run_inside(site, knock(targets)))
    assert set(closed.values()) == {"EHOSTUNREACH"}, closed
    # Negative control: without our table the app's requests leave the server.
    with table_away(site):
        opened = json.loads(hostile.run_inside(site, knock(targets[:1])))
    assert set(opened.values()) != {"EHOSTUNREACH"}


def test_builds_reach_neither_the_server_nor_private_networks(site: Site) -> None:
    route = json.loads(site.on_server("ip", "-json", "-4", "route", "show", "default"))[0]
    # The server's own addresses, its gateway, and the provider's metadata service.
    hosts = [*own_addresses(site), route["gateway"], METADATA]
    closed = from_default_network(site, [(host, 22) for host in hosts])
    assert set(closed.values()) == {"EHOSTUNREACH"}, closed
    with table_away(site):
        opened = from_default_network(site, [(gateway_of(site, "bridge"), 22)])
        around = from_default_network(site, [(route["gateway"], 22)])
    assert set(opened.values()) == {"open"}
    assert set(around.values()) != {"EHOSTUNREACH"}


def test_the_rules_are_back_when_a_firewall_has_flushed_them(site: Site) -> None:
    """Only our table is removed: `nft flush ruleset` would remove Docker's rules as well."""
    listed = site.on_server("systemctl", "list-dependencies", "--plain", "nftables.service")
    assert "flask-vps-isolation.service" in listed
    for lost in ("delete", "flush"):
        site.on_server("nft", lost, "table", *TABLE)
        site.on_server("systemctl", "reload", "flask-vps-isolation.service")
        assert "reject" in site.on_server("nft", "list", "table", *TABLE)
    shown = site.on_server(
        "systemctl", "show", "-p", "Before,PartOf,ReloadPropagatedFrom", "flask-vps-isolation"
    )
    assert "docker.service" in shown
    assert shown.count("nftables.service") == 2
