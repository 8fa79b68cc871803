"""The Docker engine: settings that others made are kept, and options fit its version."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from conftest import run_play
from engine import daemon_options, engine_major, health_pace, missing_packages

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/docker"
OURS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())["docker_daemon_options"]
TOOLS = {
    "debian": {"compose": "docker-compose", "buildx": "docker-buildx"},
    "upstream": {"compose": "docker-compose-plugin", "buildx": "docker-buildx-plugin"},
}
WANTED = ["docker.io", "docker-compose", "docker-buildx", "python3-requests"]
BOTH = ["compose", "buildx"]


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
    # Without start_interval, the interval must be short, because a start waits for it.
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
    # If it is the same driver, our limits are added.
    assert daemon_options(OURS, '{"log-driver": "json-file"}')["options"]["log-opts"]


def test_our_own_options_can_change_and_go_again() -> None:
    old = {"live-restore": True, "registry-mirrors": ["https://old.example"]}
    text = json.dumps({**old, "debug": True})
    new = {"registry-mirrors": ["https://new.example"]}
    merged = daemon_options(new, text, json.dumps(old))
    assert merged["options"] == {"debug": True, "registry-mirrors": ["https://new.example"]}
    # A value that was changed by hand is kept.
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


def test_only_the_known_key_of_dockers_archive_is_accepted(tmp_path: Path) -> None:
    known, other = "A" * 40, "B" * 40

    def shown(*fingerprints: str) -> str:
        """Return gpg's output for keys with a subkey each."""
        lines = "pub:-:255:22:01::::::scSC::\nfpr:::::::::{}:\nuid:-::::\nsub:-:\nfpr:::::::::{}:"
        return "\n".join(lines.format(key, "C" * 40) for key in fingerprints)

    cases = {
        "known": shown(known),
        "other": shown(other),
        "both": shown(known, other),
        "subkey": shown(other).replace("C" * 40, known),
        "none": "",
    }
    tasks = yaml.safe_load((ROLE / "tasks/upstream.yml").read_text())
    (check,) = [task for task in tasks if "ansible.builtin.assert" in task]
    key = {"url": "https://download.example/gpg"}
    play = {
        "vars": {"docker_upstream_fingerprint": "aaaa " * 10, "__docker_key": key},
        "tasks": [
            check
            | {
                "name": f"Case {case}",
                "ignore_errors": True,
                "vars": check["vars"] | {"__docker_gpg": {"stdout": text}},
            }
            for case, text in cases.items()
        ],
    }
    done = run_play(tmp_path, **play)
    results = re.findall(r"TASK \[Case (\w+)\][^\n]*\n(?:[^\n]*\n)*?(ok|fatal):", done.stdout)
    assert results == [(case, "ok" if case == "known" else "fatal") for case in cases], done.stdout
    words = " ".join(done.stdout.split())
    assert f"has the fingerprint {known}, {other}, which is not docker_upstream_fi" in words
    assert "has the fingerprint none, which is not" in words


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
