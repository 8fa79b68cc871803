"""IPv6: detection on servers, and the settings of Docker and the edge."""

import pytest
from engine import has_ipv6, ipv6_options, translates_ipv6
from test_proxy import compose, shared

LOOPBACK = "00000000000000000000000000000001 01 80 10 80       lo\n"
LINK = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
GLOBAL = "20010db8000000000000000000000002 04 40 00 82     eth0\n"
LOCAL = "fd00f1a5000000000000000000000002 02 40 00 82    ens3\n"
DOCKERS = "fd00f1a5000c00000000000000000001 05 40 00 82 br-1234567890ab\n"


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        ("", False),
        (LOOPBACK, False),
        (LOOPBACK + LINK, False),
        (LOOPBACK + LINK + DOCKERS, False),
        (LOOPBACK + LINK + GLOBAL, True),
        (LOCAL, True),
        ("cat: /proc/net/if_inet6: No such file or directory", False),
    ],
)
def test_a_server_has_ipv6_when_others_can_reach_it(addresses: str, found: bool) -> None:
    assert has_ipv6(addresses) is found


@pytest.mark.parametrize(
    ("version", "told"),
    [("20.10.24+dfsg1", True), ("26.1.5", True), ("27.0.1", False), ("29.1.3", False), ("", False)],
)
def test_an_engine_is_told_where_it_does_not_know(version: str, told: bool) -> None:
    assert bool(ipv6_options(version)) is told


@pytest.mark.parametrize(
    ("version", "experimental", "translates"),
    [
        ("20.10.24", True, True),
        ("26.1.5", False, False),
        ("29.1.3", False, True),
        ("19.3", True, False),
    ],
)
def test_the_edge_asks_what_the_running_engine_does(
    version: str, experimental: bool, translates: bool
) -> None:
    info = {"ServerVersion": version, "ExperimentalBuild": experimental}
    assert translates_ipv6(info) is translates


@pytest.mark.parametrize("layout", ["split", "single"])
def test_the_edge_has_a_network_of_ipv6_only_where_the_server_has(layout: str) -> None:
    without = compose(layout)
    assert without["networks"] == {"edge": {"name": "edge"}}
    found = compose(layout, __proxy_has_ipv6=True, __proxy_network="edge6")
    assert found["networks"]["edge6"]["enable_ipv6"] is True
    assert found["services"]["nginx"]["networks"] == ["edge6"]
    generated = found["services"]["nginx" if layout == "single" else "docker-gen"]
    assert generated["environment"]["ENABLE_IPV6"] == "true"


def test_nginx_answers_unknown_hosts_over_ipv6_as_well() -> None:
    assert "listen [::]:443 ssl default_server;" in shared(__proxy_has_ipv6=True)
    assert "[::]" not in shared()
