"""IPv6 visitors: apps and maintenance see each visitor's own address."""

import ipaddress
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import hostile
import pytest
from conftest import Site

PROJECT = Path(__file__).parents[3]
# The distinguishing part of the visitors' addresses in the throwaway server's network.
VISITORS = ("a1", "b2")

ASK = r"""
import socket, ssl, sys, time
address, port, name, path, count = sys.argv[1:]
answers = []
context = ssl._create_unverified_context()
for _ in range(int(count)):
    for attempt in range(20):
        try:
            raw = socket.create_connection((address, int(port)), timeout=10)
            break
        except OSError:
            # A new address is unusable until duplicate address detection has finished.
            time.sleep(0.3)
    tls = context.wrap_socket(raw, server_hostname=name)
    tls.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}:{port}\r\n\r\n".encode())
    answer = b""
    while part := tls.recv(65536):
        answer += part
    answers.append(answer.decode())
print("\0".join(answers))
"""


def inspect(*names: str) -> list[dict[str, Any]]:
    return json.loads(hostile.run_here("docker", "inspect", *names))


class Street:
    """The network of the throwaway server, from which visitors send requests."""

    def __init__(self, site: Site) -> None:
        (server,) = inspect(site.server)
        self.name = next(n for n, v in server["NetworkSettings"]["Networks"].items())
        found = server["NetworkSettings"]["Networks"][self.name]
        self.server = found["GlobalIPv6Address"]
        self.image = server["Image"]
        network = ipaddress.ip_interface(f"{self.server}/{found['GlobalIPv6PrefixLen']}").network
        self.network = network

    def address(self, visitor: str) -> str:
        return str(self.network.network_address + int(visitor, 16) * 256)

    def ask(self, visitor: str, site: Site, path: str, count: int = 1) -> list[str]:
        """Send requests from a container that has only this visitor's address."""
        said = hostile.run_here(
            *("docker", "run", "--rm", "--network", self.name, "--ip6", self.address(visitor)),
            *("--entrypoint", "python3", self.image, "-c", ASK),
            *(self.server, str(site.https_port), site.domain, path, str(count)),
        )
        assert said.startswith("HTTP/1.1 "), said
        return said.rstrip("\n").split("\0")


@pytest.fixture(scope="module")
def street(site: Site) -> Street:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    return Street(site)


def test_the_server_has_ipv6(street: Street) -> None:
    assert street.server


@pytest.mark.parametrize("domain", [hostile.PROBE, hostile.PROBE_HTTP])
def test_an_app_sees_each_visitor_s_address(street: Street, site: Site, domain: str) -> None:
    for visitor in VISITORS:
        (answer,) = street.ask(visitor, site.named(domain), "/echo")
        seen = json.loads(answer.partition("\n\n")[2])
        assert seen["headers"]["X-Forwarded-For"] == street.address(visitor)
        assert seen["headers"]["X-Real-Ip"] == street.address(visitor)


def test_addresses_of_ipv4_stay_what_they_were(site: Site) -> None:
    seen = json.loads(site.named(hostile.PROBE).request("/echo").body)
    assert ipaddress.ip_address(seen["headers"]["X-Forwarded-For"]).version == 4


def test_an_unknown_name_gets_no_answer_over_ipv6(street: Street, site: Site) -> None:
    with pytest.raises(AssertionError, match=r"(?i)unrecognized|alert|eof"):
        street.ask(VISITORS[0], site.named("unknown.localhost"), "/")


def maintenance(*variables: str) -> None:
    inventories = [f"--inventory={i}" for i in os.environ["SITE_INVENTORIES"].split(",")]
    extra = [f"--extra-vars={variable}" for variable in variables]
    playbook = PROJECT / "playbooks/maintenance.yml"
    done = subprocess.run(
        ["ansible-playbook", *inventories, str(playbook), *extra],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_maintenance_admits_an_allowed_address(street: Street, site: Site) -> None:
    probe = site.named(hostile.PROBE)
    inside, outside = VISITORS
    maintenance("app=probe", "state=on", f"allow={street.address(inside)}")
    try:
        statuses = [street.ask(v, probe, "/health")[0].split()[1] for v in (inside, outside)]
    finally:
        maintenance("app=probe", "state=off")
    assert statuses == ["200", "503"]
