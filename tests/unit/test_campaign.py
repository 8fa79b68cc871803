"""The load tests' runs of playbooks, and the chaos tests' choice of tasks to kill."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.campaign import Campaign

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("nice", "added"), [(False, 0), (True, 10)])
def test_only_a_nice_campaign_lowers_the_priority(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nice: bool, added: int
) -> None:
    playbook = tmp_path / "bin/ansible-playbook"
    playbook.parent.mkdir()
    playbook.write_text("#!/bin/sh\nnice\n")
    playbook.chmod(0o755)
    monkeypatch.setenv("PATH", f"{playbook.parent}:{os.environ['PATH']}")
    # A plot alone does not lower the priority.
    monkeypatch.setenv("DEPLOY_PLOT", "1")
    campaign = Campaign(
        "https://site.test", Path("ca.pem"), tmp_path, [], tmp_path, lambda *_: "", nice=nice
    )
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert int(campaign.play("deploy.yml").output) == min(before + added, 19)


def _kills(seed: int) -> str:
    """List the chaos tests with the task at which each kills a deploy."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "molecule/chaos/tests"],
        cwd=ROOT,
        env={**os.environ, "SITE_DIR": "/nowhere", "CHAOS_SEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return "".join(line for line in done.stdout.splitlines(keepends=True) if "::" in line)


def test_a_seed_repeats_a_sample_of_kills() -> None:
    sample = _kills(0)
    assert "test_killed_controller[App | " in sample
    assert _kills(0) == sample
    assert _kills(1) != sample
