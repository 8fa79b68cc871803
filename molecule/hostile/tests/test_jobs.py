"""Scheduled jobs on a server where other users have a shell."""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import hostile
import pytest
from conftest import Site, eventually

FOLDER = "/opt/flask-vps/apps/probe/jobs"
RUN = "/opt/flask-vps/bin/run-job probe told"
# The lock of earlier versions, in a folder where any user can create a link.
OLD_LOCK = "/run/lock/flask-vps-probe-told"


def shell(site: Site, script: str) -> str:
    return site.on_server("sh", "-c", script)


def as_nobody(site: Site, script: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "exec", "--user", "nobody", site.server, "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def record(site: Site) -> dict[str, Any]:
    return json.loads(site.on_server("cat", f"{FOLDER}/told.json"))


def tell(site: Site, script: str) -> None:
    hostile.run_inside(site, f"open('/data/job', 'w').write({script!r})")


@pytest.fixture(autouse=True)
def afterwards(site: Site) -> Iterator[None]:
    yield
    hostile.run_inside(site, "import os; os.path.exists('/data/job') and os.remove('/data/job')")
    shell(site, f"rm -f {FOLDER}/told.json {OLD_LOCK} /root/precious")


def test_what_came_of_a_job_is_written_down(site: Site) -> None:
    tell(site, "echo done; exit 3")
    said = shell(site, f"{RUN}; echo $?")
    assert "done\n" in said and said.endswith("<3>Ended with exit code 3.\n3\n")
    found = record(site)
    assert found["exit_code"] == 3 and found["skipped"] == 0
    assert found["started"] <= found["ended"]


def test_other_users_can_neither_block_a_job_nor_redirect_its_files(site: Site) -> None:
    shell(site, "echo data > /root/precious")
    # With the old lock, this link made root truncate the file, and blocked the job forever.
    assert as_nobody(site, f"ln -s /root/precious {OLD_LOCK}").returncode == 0
    tell(site, "echo done")
    assert "done" in shell(site, RUN)
    assert shell(site, "cat /root/precious") == "data\n"
    for attempt in (f"ls {FOLDER}", f"flock -n {FOLDER} true", f"flock {FOLDER}/.told.lock true"):
        refused = as_nobody(site, attempt)
        assert refused.returncode != 0 and "denied" in refused.stderr, attempt
    # Negative control: any user can create and lock a file in the folder of the old lock.
    assert as_nobody(site, f"rm {OLD_LOCK} && flock -n {OLD_LOCK} true").returncode == 0


def test_a_job_that_does_not_end_is_reported(site: Site) -> None:
    tell(site, "sleep 60")
    shell(site, f"{RUN} >/dev/null 2>&1 &")
    # The container exists once the job is running.
    eventually(lambda: site.on_server("docker", "inspect", "probe-job-told"), seconds=20)
    said = [shell(site, RUN) for _ in range(3)]
    site.on_server("docker", "kill", "probe-job-told")
    assert ["<3>" in text for text in said] == [False, False, True]
    assert "left out 3 times in a row" in said[2]
    for _ in range(40):
        if record(site)["ended"]:
            break
        time.sleep(0.5)
    assert record(site)["skipped"] == 3 and record(site)["exit_code"] == 137
    tell(site, "true")
    shell(site, RUN)
    assert record(site)["skipped"] == 0
