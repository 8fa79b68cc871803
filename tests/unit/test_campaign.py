"""How the tests under load run playbooks."""

import os
from pathlib import Path

import pytest

from bench.campaign import Campaign


@pytest.mark.parametrize(("nice", "added"), [(False, 0), (True, 10)])
def test_only_a_nice_campaign_lowers_the_priority(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nice: bool, added: int
) -> None:
    playbook = tmp_path / "bin/ansible-playbook"
    playbook.parent.mkdir()
    playbook.write_text("#!/bin/sh\nnice\n")
    playbook.chmod(0o755)
    monkeypatch.setenv("PATH", f"{playbook.parent}:{os.environ['PATH']}")
    # A plot is not a reason.
    monkeypatch.setenv("DEPLOY_PLOT", "1")
    campaign = Campaign(
        "https://site.test", Path("ca.pem"), tmp_path, [], tmp_path, lambda *_: "", nice=nice
    )
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert int(campaign.play("deploy.yml").output) == min(before + added, 19)
