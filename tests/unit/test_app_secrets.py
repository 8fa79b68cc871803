"""Secrets of several lines, values that YAML changes, and secrets in every `docker exec`."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from checks.secrets import check_secrets
from checks.yaml_traps import yaml_traps

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "roles/app/files/recipe/runtime"
STRONG = "k3J9-vQ2x_Lm8Zp4Rt7Wy1Nb6Hc0Fd5Gs"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg+/=\n-----END PRIVATE KEY-----\n"


def findings(name: str, value: Any) -> list[str]:
    given = {"SECRET_KEY": STRONG, name: value}
    app = {"name": "shop", "database": "none"}
    return [str(finding) for finding in check_secrets(app, given, "vault", set())]


@pytest.mark.parametrize(
    "value", [PEM, PEM.strip(), PEM.replace("\n", "\r\n"), '{\n\t"type": "service_account"\n}\n']
)
def test_a_secret_may_have_several_lines(value: str) -> None:
    assert findings("KEY", value) == []
    # One that signs sessions or logs in to the database may not.
    assert "line break" in findings("SECRET_KEY", f"{STRONG}\n{STRONG}")[0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a-password-1\n", "ends with a line break"),
        (PEM.replace("M", "\0"), "control character"),
        ({"type": "service_account"}, "Write the text as a block"),
        (750, "not text but int"),
    ],
)
def test_a_secret_that_is_probably_damaged_is_a_finding(value: Any, said: str) -> None:
    assert said in findings("KEY", value)[0]


# -- YAML ------------------------------------------------------------------------------------------


def traps(line: str) -> list[Any]:
    return yaml_traps(f"apps:\n  - name: shop\n    environment:\n      {line}\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("OPENS: 12:30", "is written 12:30, which YAML reads as 750. Put it in quotes: '12:30'"),
        ("VERSION: 3.10", "is written 3.10, which YAML reads as 3.1"),
        ("UMASK: 0022", "is written 0022, which YAML reads as 18"),
        ("COUNT: 1_000", "is written 1_000, which YAML reads as 1000"),
        ("SINCE: 2026-01-31 10:00:00Z", "YAML reads as 2026-01-31 10:00:00+00:00"),
    ],
)
def test_a_number_that_yaml_changes_is_a_problem(line: str, said: str) -> None:
    (finding,) = traps(line)
    assert said in str(finding) and not finding.warning
    assert finding.variable == f"apps.shop.environment.{line.partition(':')[0]}"
    name, _, value = line.partition(": ")
    assert traps(f'{name}: "{value}"') == []


@pytest.mark.parametrize("line", ["A: 3.5", "A: 12", "A: true", "A: text", "A: '3.10'", "A: 1e3"])
def test_a_value_that_stays_as_it_is_written_is_none(line: str) -> None:
    assert traps(line) == []


def test_a_word_that_becomes_true_is_a_warning() -> None:
    (finding,) = traps("COUNTRY: NO")
    assert finding.warning and "which YAML reads as false" in str(finding)


def test_the_traps_are_found_wherever_apps_are() -> None:
    text = "servers: {hosts: {web: {apps: [{name: shop, version: 1.10, memory_mb: 512}]}}}"
    assert [f.variable for f in yaml_traps(text)] == ["apps.shop.version"]
    assert (
        yaml_traps("apps: [{name: a, memory_mb: 010}]")[0].fix
        == "Write a plain number, such as 512"
    )
    assert yaml_traps("other: {version: 1.10}") == []
    assert yaml_traps("apps: [") == []


def test_a_trap_in_a_secret_is_not_shown() -> None:
    (finding,) = traps("API_TOKEN: 012345")
    assert "012345" not in str(finding) and "5349" not in str(finding)


# -- docker exec -----------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The programs of an image, with its folders below a temporary one."""
    for name in ("secrets", "local", "bin", "exec"):
        (tmp_path / name).mkdir()
    for name in ("entrypoint", "make-links"):
        text = (RUNTIME / name).read_text()
        for old, new in {
            "/run/secrets": "secrets", "/usr/local/bin": "local", "/opt/flask-vps/exec": "exec",
            "/opt/venv/bin": "bin", " /bin/*": "", " /usr/bin/*": "",
        }.items():  # fmt: skip
            text = text.replace(old, f"{tmp_path / new}" if new else "")
        (tmp_path / "local" / name).write_text(text)
        (tmp_path / "local" / name).chmod(0o755)
    tool = tmp_path / "bin/tool"
    tool.write_text('#!/bin/sh\necho "$KEY|$PATH|$*"\n')
    tool.chmod(0o755)
    (tmp_path / "secrets/KEY").write_text(PEM)
    (tmp_path / "secrets/not-a-name").write_text("x")
    return tmp_path


def run(image: Path, *command: str) -> str:
    path = f"{image}/exec:{image}/local:{image}/bin:{os.environ['PATH']}"
    # As Docker does, which looks the command up in the PATH of the container.
    program = next(p for f in path.split(":") if (p := Path(f, command[0])).exists())
    done = subprocess.run(
        [str(program), *command[1:]],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_command_of_docker_exec_has_the_secrets(image: Path) -> None:
    subprocess.run(["sh", image / "local/make-links"], check=True)
    key, path, arguments = run(image, "tool", "a b", "c").split("|")
    assert (key, arguments) == (PEM.strip(), "a b c\n")
    # What a command starts has the variables already, so it needs no link.
    assert f"{image}/exec" not in path and f"{image}/bin" in path
    assert not (image / "exec/healthcheck").exists() and not (image / "exec/entrypoint").exists()


def test_without_a_link_a_command_has_none(image: Path) -> None:
    """The negative control: it is the link that makes the difference."""
    assert run(image, "tool").startswith("|")


def test_the_app_itself_runs_without_the_links(image: Path) -> None:
    subprocess.run(["sh", image / "local/make-links"], check=True)
    key, path, _ = run(image, "entrypoint", "tool").split("|")
    assert key == PEM.strip() and f"{image}/exec" not in path


def test_a_secret_of_another_user_is_left_out(image: Path) -> None:
    subprocess.run(["sh", image / "local/make-links"], check=True)
    (image / "secrets/KEY").unlink()
    (image / "secrets/KEY").mkdir()
    assert run(image, "tool").startswith("|")


def test_files_that_are_volumes_are_links(image: Path) -> None:
    shipped, new = image / "app/shop.db", image / "app/logs/app.log"
    shipped.parent.mkdir()
    shipped.write_text("rows")
    links = [f"{shipped}={image}/files/a/shop.db", f"{new}={image}/files/b/app.log"]
    subprocess.run(["sh", image / "local/make-links", *links], check=True)
    # The volume is filled with what the image has.
    assert (image / "files/a/shop.db").read_text() == "rows" and shipped.is_symlink()
    new.write_text("line")
    assert (image / "files/b/app.log").read_text() == "line"
