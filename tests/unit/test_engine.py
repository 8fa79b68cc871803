"""What may become of an engine that somebody else set up, and what each version is told."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from engine import daemon_options, engine_major, health_pace, key_fingerprint, missing_packages

ROLE = Path(__file__).parents[2] / "roles/docker"
OURS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())["docker_daemon_options"]
TOOLS = {
    "debian": {"compose": "docker-compose", "buildx": "docker-buildx"},
    "upstream": {"compose": "docker-compose-plugin", "buildx": "docker-buildx-plugin"},
}
WANTED = ["docker.io", "docker-compose", "docker-buildx", "python3-requests"]
BOTH = ["compose", "buildx"]

# A key that was made for this test alone.
KEY = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawP+ehYJKwYBBAHaRw8BAQdAaP8aWegckgaznoKJVU10xZk9ldR8fZhR486P
5PXju520DmZsYXNrLXZwcyB0ZXN0iJAEExYIADgWIQRZefS52VnspaGlwuozabJW
A+d6QgUCawP+egIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRAzabJWA+d6
QuUPAP9GyzK1g4quqYk2vCEeIfoW+5bwDFrYeDTcoD01IfAeKQEAkCCCo3Rds24y
IEUIRzP5ElCAGXxCsfSXNEQrSHYqzAc=
=rWLJ
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "5979F4B9D959ECA5A1A5C2EA3369B25603E77A42"


@pytest.mark.parametrize(
    ("version", "major"),
    [
        ("20.10.24+dfsg1", 20),
        ("Docker version 29.1.3, build f52814d", 29),
        ("28.5.2-rc.1", 28),
        ("", 0),
    ],
)
def test_major_version_is_read_from_what_engines_say(version: str, major: int) -> None:
    assert engine_major(version) == major


@pytest.mark.parametrize(("version", "knows"), [("20.10.24+dfsg1", False), ("24.0.9", False),
                                                ("25.0.0", True), ("29.1.3", True)])  # fmt: skip
def test_only_engines_from_25_on_are_told_a_start_interval(version: str, knows: bool) -> None:
    pace = health_pace(version)
    assert ("start_interval" in pace) is knows
    # Without one, a start must not wait for an interval that is meant for the years after it.
    assert knows or int(pace["interval"].removesuffix("s")) <= 5


def test_bare_server_gets_all_options() -> None:
    merged = daemon_options(OURS)
    assert merged == {"options": OURS, "added": OURS, "kept": [], "differs": True}


def test_second_run_changes_nothing() -> None:
    first = daemon_options(OURS)
    written, record = json.dumps(first["options"]), json.dumps(first["added"])
    assert daemon_options(OURS, written, record)["differs"] is False


def test_what_the_server_says_is_kept() -> None:
    theirs = {"data-root": "/srv/docker", "live-restore": False, "dns": ["10.0.0.1"]}
    merged = daemon_options(OURS, json.dumps(theirs))
    assert theirs.items() <= merged["options"].items()
    assert merged["kept"] == ["live-restore"]
    assert set(merged["added"]) == {"log-driver", "log-opts", "default-address-pools"}


def test_options_of_one_log_driver_never_meet_another() -> None:
    merged = daemon_options(OURS, '{"log-driver": "journald"}')
    assert "log-opts" not in merged["options"]
    assert daemon_options(OURS, '{"log-opts": {"tag": "x"}}')["options"].get("log-driver") is None
    # The same driver takes our limits.
    assert daemon_options(OURS, '{"log-driver": "json-file"}')["options"]["log-opts"]


def test_our_own_options_can_change_and_go_again() -> None:
    old = {"live-restore": True, "registry-mirrors": ["https://old.example"]}
    text = json.dumps({**old, "debug": True})
    new = {"registry-mirrors": ["https://new.example"]}
    merged = daemon_options(new, text, json.dumps(old))
    assert merged["options"] == {"debug": True, "registry-mirrors": ["https://new.example"]}
    # What somebody has changed since is theirs now.
    text = json.dumps({"registry-mirrors": ["https://theirs.example"]})
    merged = daemon_options(new, text, json.dumps(old))
    assert merged["options"]["registry-mirrors"] == ["https://theirs.example"]
    assert merged["kept"] == ["registry-mirrors"]


@pytest.mark.parametrize("argument", ["--log-driver=syslog", "--log-driver syslog"])
def test_option_on_the_command_line_is_not_written_a_second_time(argument: str) -> None:
    line = f"/usr/sbin/dockerd -H fd:// {argument} --default-address-pool base=10.9.0.0/16,size=24"
    added = daemon_options(OURS, arguments=line)["added"]
    assert set(added) == {"live-restore"}


def test_swarm_node_is_spared_live_restore() -> None:
    assert "live-restore" not in daemon_options(OURS, swarm="active")["options"]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1,}'])
def test_unreadable_configuration_is_named_and_not_replaced(text: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"daemon\.json is not"):
        daemon_options(OURS, text)


def test_bare_server_gets_everything() -> None:
    assert missing_packages(WANTED, False, [], BOTH, TOOLS) == WANTED


@pytest.mark.parametrize(
    ("installed", "lacking", "expected"),
    [
        (["docker-ce"], [], []),
        (["docker-ce"], ["compose"], ["docker-compose-plugin"]),
        (["docker.io"], BOTH, ["docker-compose", "docker-buildx"]),
        ([], [], []),
    ],
)
def test_existing_engine_is_never_replaced(
    installed: list[str], lacking: list[str], expected: list[str]
) -> None:
    found = missing_packages(WANTED, True, installed, lacking, TOOLS)
    assert found == [*expected, "python3-requests"]


def test_engine_of_unknown_origin_without_compose_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="no docker compose and no docker buildx"):
        missing_packages(WANTED, True, [], BOTH, TOOLS)


def test_fingerprint_is_the_one_that_gpg_shows() -> None:
    assert key_fingerprint(KEY) == FINGERPRINT
    assert key_fingerprint(KEY.replace("\n", "\r\n")) == FINGERPRINT


@pytest.mark.parametrize("text", ["", "<html>", KEY.replace("m", "!", 1), KEY[:60]])
def test_what_is_no_key_has_no_fingerprint(text: str) -> None:
    with pytest.raises(AnsibleFilterError, match="no OpenPGP public key"):
        key_fingerprint(text)


@pytest.mark.parametrize("release", ["bookworm", "trixie", "noble"])
def test_docker_archive_is_described_as_in_its_manual(release: str) -> None:
    template = jinja2.Template((ROLE / "templates/docker.sources.j2").read_text())
    values: dict[str, Any] = {
        "docker_upstream_url": "https://download.docker.com/linux",
        "__docker_distribution": "ubuntu" if release == "noble" else "debian",
        "ansible_facts": {"distribution_release": release},
    }
    fields = dict(
        line.split(": ", 1) for line in template.render(values).splitlines() if line[0] != "#"
    )
    folder = "ubuntu" if release == "noble" else "debian"
    assert fields == {
        "Types": "deb",
        "URIs": f"https://download.docker.com/linux/{folder}",
        "Suites": release,
        "Components": "stable",
        "Signed-By": "/etc/apt/keyrings/docker.asc",
    }
