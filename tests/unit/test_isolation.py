"""The nftables table that closes a server to containers, tested without nftables and Docker."""

import importlib.machinery
import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from checks import outside
from module_utils.names import Names

FILE = Path(__file__).parents[2] / "roles/docker/files/isolate"


def _load() -> Any:
    loader = importlib.machinery.SourceFileLoader("isolate", str(FILE))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("isolate", loader))
    loader.exec_module(module)
    return module


isolate = _load()


def network(name: str, **more: Any) -> dict[str, Any]:
    return {"Name": name, "Id": name[0] * 64, "Driver": "bridge", "Options": {}, **more}


DEFAULT = network(
    "bridge",
    Options={
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.name": "docker7",
    },
)
EDGE = network("edge", Labels={"com.docker.compose.project": "edge"})


def test_bridges_are_those_of_our_own_networks() -> None:
    foreign = [
        network("wiki-backend"),
        network("lan", Options={"com.docker.network.bridge.name": "br-lan"}),
        network("host", Driver="host", Options=None),
        network("overlay", Driver="overlay", Labels={"com.docker.compose.project": "edge"}),
    ]
    found = isolate.bridges([DEFAULT, EDGE, network("shop-backend"), *foreign], ["shop"])
    assert found == ([f"br-{'e' * 12}", f"br-{'s' * 12}"], "docker7")
    assert isolate.bridges([], []) == ([], "")


def test_no_network_of_the_model_is_forgotten() -> None:
    networks = Names("shop").networks
    for name in networks.values():
        assert isolate.bridges([network(name)], ["shop"])[0], name
    assert isolate.ways_out([network(networks["internet"])], ["shop"])[0]
    assert not isolate.ways_out([network(networks["backend"])], ["shop"])[0]


def subnets(*texts: str) -> dict[str, Any]:
    return {"IPAM": {"Config": [{"Subnet": text, "Gateway": "x"} for text in texts]}}


def test_ways_out_are_those_of_our_own_apps() -> None:
    networks = [
        network("internet-of-shop", **subnets("10.1.0.0/24")),
        network("shop-internet", **subnets("10.2.0.0/24", "fd00:1::/64")),
        network("wiki-internet", IPAM={"Config": None}),
        network("none", Driver="null", IPAM={}),
        # Docker gives a network any addresses that it is told to, public ones too.
        network("lan", Driver="macvlan", **subnets("203.0.113.0/24")),
    ]
    out, inside = isolate.ways_out(networks, ["shop"])
    assert out == [f"br-{'s' * 12}"]
    assert inside == ["10.1.0.0/24", "10.2.0.0/24", "203.0.113.0/24", "fd00:1::/64"]
    of_apps, _ = isolate.bridges([network("shop-internet")], ["shop"])
    assert of_apps == out


def test_resolvers_are_those_that_containers_can_ask() -> None:
    texts = ["nameserver 127.0.0.53\n# nameserver 192.0.2.9\n", " nameserver 10.0.0.2\nsearch x\n"]
    texts.append("nameserver fe80::1%eth0\nnameserver nonsense\nnameserver ::1\n")
    assert isolate.resolvers(texts, '{"dns": ["10.0.0.3"]}') == ["10.0.0.2", "10.0.0.3", "fe80::1"]
    for broken in ("{", "[]", '{"dns": null}', ""):
        assert isolate.resolvers([], broken) == []


def table(**given: Any) -> str:
    values = {"of_apps": ["br-a"], "of_builds": "docker0", "dns": [], "reach": [], "ports": []}
    return isolate.rules(**{**values, **given})


def test_nothing_of_the_server_is_open_to_apps_without_a_word_of_the_operator() -> None:
    rules = [line for line in table().splitlines() if '"br-a"' in line]
    assert [rule.split("}", 1)[1].split(" accept")[0].strip() for rule in rules[:-1]] == [
        "ct state established,related",
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }",
    ]
    assert "reject" in rules[-1]
    opened = table(ports=[25, 587])
    assert '{ "br-a" } tcp dport { 25, 587 } accept' in opened
    assert '"docker0" tcp dport' not in opened


def test_builds_reach_resolvers_and_what_the_operator_names() -> None:
    text = table(dns=["10.0.0.2", "fd00::2"], reach=["10.1.0.0/16", "10.1.2.3", "fd01::/64"])
    forward = text.partition("chain forward")[2]
    allowed = [
        "ip daddr { 10.0.0.2/32 } meta l4proto { tcp, udp } th dport 53 accept",
        "ip6 daddr { fd00::2/128 } meta l4proto { tcp, udp } th dport 53 accept",
        # nft refuses overlapping networks in one set.
        "ip daddr { 10.1.0.0/16 } accept",
        "ip6 daddr { fd01::/64 } accept",
    ]
    places = [forward.index(f'iifname "docker0" {rule}') for rule in allowed]
    assert places == sorted(places)
    assert places[-1] < forward.index("192.168.0.0/16")


def test_a_way_out_leads_to_nothing_private_unless_the_operator_says_so() -> None:
    text = table(
        of_apps=["br-a", "br-i"],
        of_internet=["br-i"],
        dns=["10.0.0.2"],
        subnets=["10.213.1.0/24", "203.0.113.0/24"],
        apps_reach=["10.0.0.0/8"],
    )
    forward = text.partition("chain forward")[2]
    rules = [line.strip() for line in forward.splitlines() if '"br-i"' in line]
    order = [
        "ct state established,related accept",
        'oifname "br-i" accept',
        "ip daddr { 10.0.0.2/32 } meta l4proto { tcp, udp } th dport 53 accept",
        # Also if the operator has named a network around them.
        "ip daddr { 10.213.1.0/24, 203.0.113.0/24 } counter reject",
        "ip daddr { 10.0.0.0/8 } accept",
        "ip daddr { 10.0.0.0/8, 100.64.0.0/10",
        "ip6 daddr { fc00::/7",
    ]
    assert len(rules) == len(order)
    for rule, part in zip(rules, order, strict=True):
        assert part in rule
    # The server's own addresses are the input chain's.
    assert 'iifname { "br-a", "br-i" } counter reject' in text.partition("chain forward")[0]
    assert '"br-a"' not in forward
    # Negative control: without such a network there is no rule for one.
    assert "203.0.113.0/24" not in table(subnets=["203.0.113.0/24"])


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "192.0.0.192"])
def test_metadata_is_private(address: str) -> None:
    networks = map(isolate.ipaddress.ip_network, isolate.PRIVATE)
    assert any(isolate.ipaddress.ip_address(address) in network for network in networks)


def test_preflight_knows_what_the_rules_close() -> None:
    assert [str(network) for network in outside.PRIVATE] == list(isolate.PRIVATE)


def test_other_tables_are_left_alone() -> None:
    commands = [line for line in table().splitlines() if line and line[0] not in "\t#}"]
    assert commands == [
        "table inet flask_vps",
        "delete table inet flask_vps",
        "table inet flask_vps {",
    ]


def test_what_nft_refuses_is_named_without_the_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = "iifname { " + ", ".join(f'"br-{n:012}"' for n in range(40)) + " } reject"
    where = "/opt/flask-vps/isolation/rules.new:7:3-9: Error:"
    said = f"{where} Could not process rule: No such file or directory\n{rule}\n  ^^^^^^^\n" * 2
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}END\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SystemExit, match=r"No such file or directory\)\. The kernel") as stopped:
        isolate._load(tmp_path / "rules")
    assert "^^" not in str(stopped.value)
    assert "br-" not in str(stopped.value)


@pytest.mark.skipif(not shutil.which("nft"), reason="needs nft")
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"of_apps": [], "of_builds": ""},
        {"dns": ["10.0.0.2", "fd00::2"], "reach": ["10.1.0.0/16", "fd01::/64"], "ports": [25]},
        {"of_internet": ["br-i", "br-j"], "subnets": ["10.2.0.0/24", "10.2.0.0/16", "fd02::/64"]},
    ],
)
def test_nft_takes_the_table(given: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "rules"
    file.write_text(table(**given))
    done = subprocess.run(["nft", "--check", "-f", file], capture_output=True, text=True)
    if "Operation not permitted" in done.stderr:
        pytest.skip("needs root")
    assert done.returncode == 0, done.stderr
