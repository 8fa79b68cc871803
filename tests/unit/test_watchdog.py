"""The watchdog: what it restarts, with a stand-in for the docker command."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/docker/files/watchdog"
# Responds like Docker for one unhealthy project, and records restarts.
DOCKER = """#!/bin/sh
case "$*" in
*health=unhealthy*) echo sick ;;
ps*) echo sick; echo other ;;
*project.working_dir*) echo "$RELEASE" ;;
*compose.project*) echo shop-1 ;;
inspect*) echo "no answer" ;;
restart*) echo "$*" >>"$RESTARTED" ;;
esac
"""


def watch(tmp_path: Path, release: str) -> str:
    """Run the watchdog once and return what it restarted."""
    tools, restarted = tmp_path / "bin", tmp_path / "restarted"
    tools.mkdir(exist_ok=True)
    restarted.touch()
    docker = tools / "docker"
    docker.write_text(DOCKER)
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    script = SCRIPT.read_text().replace("/run/flask-vps-watchdog", str(tmp_path / "stamps"))
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}", "RELEASE": release, "RESTARTED": str(restarted),
    }  # fmt: skip
    subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)
    return restarted.read_text()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app's folder with the releases 1 and 2, of which 1 is live."""
    folder = tmp_path / "shop"
    for name in "12":
        (folder / "releases" / name).mkdir(parents=True)
    (folder / "current").symlink_to(folder / "releases/1")
    return folder


def test_a_release_with_the_traffic_is_restarted_as_a_whole(tmp_path: Path, app: Path) -> None:
    assert watch(tmp_path, f"{app}/releases/1") == "restart --time 10 sick other\n"
    # No second restart within the pause.
    assert watch(tmp_path, f"{app}/releases/1").count("\n") == 1


def test_a_release_that_drains_or_starts_is_left_alone(tmp_path: Path, app: Path) -> None:
    assert watch(tmp_path, f"{app}/releases/2") == ""
    # Negative control: only the link decides.
    (app / "current").unlink()
    (app / "current").symlink_to(app / "releases/2")
    assert watch(tmp_path, f"{app}/releases/2") != ""


@pytest.mark.parametrize("gone", ["releases/1", ""])
def test_a_release_whose_folder_is_gone_is_left_alone(tmp_path: Path, app: Path, gone: str) -> None:
    (app / gone).rename(tmp_path / "gone")
    assert watch(tmp_path, f"{app}/releases/1") == ""


def test_what_belongs_to_no_app_is_restarted(tmp_path: Path) -> None:
    assert watch(tmp_path, "") != ""
