"""Scheduled jobs: runs, skipped runs and their records, with a stand-in for docker."""

import fcntl
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "roles/app/files/run-job"
# Responds like Docker; the file `running` stands for a container of the last run.
DOCKER = """#!/bin/sh
echo "$@" >> "$FOLDER/calls"
case $1 in
inspect) [ -e "$FOLDER/running" ] && cat "$FOLDER/running" ;;
compose) cat "$FOLDER/apps/shop/jobs/tick.json" > "$FOLDER/meanwhile"; exit "$STATUS" ;;
esac
"""


def _load() -> Any:
    loader = importlib.machinery.SourceFileLoader("run_job", str(FILE))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_job", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program run-job, with an app `shop` that has a job `tick`."""
    module = _load()
    app = tmp_path / "apps/shop"
    (app / "jobs").mkdir(parents=True)
    (app / "jobs/tick").write_text("flask tick\n")
    (app / "releases/abc").mkdir(parents=True)
    (app / "current").symlink_to(app / "releases/abc")
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("STATUS", "0")
    monkeypatch.setattr(module, "APPS", tmp_path / "apps")
    module.folder = tmp_path
    yield module


def record(job: Any) -> dict[str, Any]:
    return json.loads((job.folder / "apps/shop/jobs/tick.json").read_text())


def calls(job: Any) -> str:
    file = job.folder / "calls"
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize("status", [0, 3])
def test_a_run_is_written_down(job: Any, status: int, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("STATUS", str(status))
    assert job.run("shop", "tick") == status
    found = record(job)
    assert found["started"] <= found["ended"] and found["exit_code"] == status
    assert found["skipped"] == 0
    # The record said that the job was running.
    assert json.loads((job.folder / "meanwhile").read_text())["ended"] is None
    assert f"--project-name shop-abc --file {job.folder}/apps/shop/releases/abc/" in calls(job)
    assert "--name shop-job-tick web sh -c for r in /usr/local/bin/run-line" in calls(job)
    assert 'exec sh -c "$1" job flask tick' in calls(job)
    assert ("<3>Ended with exit code 3." in capsys.readouterr().out) == (status == 3)


def test_a_job_that_still_runs_is_not_started_twice(job: Any, capsys: Any) -> None:
    (job.folder / "apps/shop/jobs/tick.json").write_text('{"started": "then", "ended": null}')
    holder = os.open(job.folder / "apps/shop/jobs/.tick.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    for count in (1, 2):
        assert job.run("shop", "tick") == 0
        assert record(job) == {
            **{"started": "then", "ended": None, "exit_code": None},
            "skipped": count,
        }
    assert "<3>" not in capsys.readouterr().out
    job.run("shop", "tick")
    said = capsys.readouterr().out
    assert said.startswith("<3>The job tick of shop was left out 3 times in a row")
    assert "docker stop shop-job-tick" in said
    assert "compose" not in calls(job)
    os.close(holder)
    job.run("shop", "tick")
    assert record(job)["skipped"] == 0


def test_a_container_that_outlived_its_runner_counts_as_a_run(job: Any) -> None:
    """Earlier versions had the lock elsewhere, and a killed runner has none."""
    (job.folder / "running").write_text("true\n")
    job.run("shop", "tick")
    assert "compose" not in calls(job) and record(job)["skipped"] == 1


def test_what_a_reboot_left_is_removed_and_told(job: Any, capsys: Any) -> None:
    (job.folder / "running").write_text("false\n")
    (job.folder / "apps/shop/jobs/tick.json").write_text('{"started": "then", "ended": null}')
    job.run("shop", "tick")
    assert "rm --force shop-job-tick" in calls(job) and "compose" in calls(job)
    assert "began at then was cut off" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[]", '{"skipped": null}'])
def test_a_broken_record_stops_no_job(job: Any, text: str) -> None:
    (job.folder / "apps/shop/jobs/tick.json").write_text(text)
    assert job.run("shop", "tick") == 0
    assert record(job)["exit_code"] == 0


def test_a_link_in_the_place_of_the_lock_is_not_followed(job: Any) -> None:
    target = job.folder / "precious"
    target.write_text("data")
    (job.folder / "apps/shop/jobs/.tick.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        job.run("shop", "tick")
    assert target.read_text() == "data"


def test_the_lock_is_gone_with_its_process(job: Any) -> None:
    """A killed runner must not block the job forever."""
    code = f"""
import importlib.machinery, importlib.util, os, pathlib
loader = importlib.machinery.SourceFileLoader("run_job", {str(FILE)!r})
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_job", loader))
loader.exec_module(module)
assert module.is_mine(pathlib.Path({str(job.folder)!r}, "apps/shop/jobs/.tick.lock"), "x")
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert job.run("shop", "tick") == 0 and record(job)["exit_code"] == 0


def test_no_job_waits_for_a_lock_that_is_its_own(job: Any) -> None:
    """A job may be named like the file that once was the lock of all records."""
    (job.folder / "apps/shop/jobs/records").write_text("flask tick\n")
    code = f"""
import importlib.machinery, importlib.util, pathlib
loader = importlib.machinery.SourceFileLoader("run_job", {str(FILE)!r})
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_job", loader))
loader.exec_module(module)
module.APPS = pathlib.Path({str(job.folder / "apps")!r})
raise SystemExit(module.run("shop", "records"))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0
    assert json.loads((job.folder / "apps/shop/jobs/records.json").read_text())["exit_code"] == 0
