"""A deploy may be killed anywhere: the site serves a release, and the next run puts it right."""

import os
import random
import re
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Site, eventually

from bench.campaign import Campaign

OUTPUT = Path(os.environ["SITE_DIR"])
# A task in each part of a deploy. A run takes some of these, and some of all tasks at random;
# `make test-chaos` takes all.
TELLING = [
    "App | Build the image",
    "App | Run the release command",
    "App | Wait until the release is healthy",
    "App | Give the release the traffic",
    "App | Let older releases finish",
]
RANDOM = int(os.environ.get("CHAOS_RANDOM", "1"))
# The scenario prints its seed, so that a sample can be killed again.
SAMPLES = random.Random(os.environ["CHAOS_SEED"])  # noqa: S311


@pytest.fixture(scope="module")
def campaign(site: Site) -> Campaign:
    return Campaign(
        url=f"https://{site.domain}:{site.https_port}",
        ca=site.ca,
        source=OUTPUT / "ledger",
        inventories=os.environ["SITE_INVENTORIES"].split(","),
        work=OUTPUT / "chaos",
        on_server=site.on_server,
        # Later than what the scenario deploy may have left.
        number=int(time.time()) % 10**6,
    )


@pytest.fixture(scope="module")
def boundaries(campaign: Campaign) -> list[str]:
    """The tasks of a deploy that changes the source."""
    deploy = campaign.deploy()
    assert deploy.succeeded, deploy.output[-4000:]
    return [task for _, task in deploy.tasks]


def served(site: Site) -> int:
    """Tell the number of the release that answers."""
    answer = site.request("/")
    assert answer.status == 200, answer.body
    return int(re.search(r"release (\d+)", answer.body)[1])


def recovers(campaign: Campaign, site: Site) -> None:
    """The next run converges, and one more finds nothing to do."""
    again = campaign.play("deploy.yml")
    assert again.succeeded, again.output[-4000:]
    assert served(site) == campaign.number
    third = campaign.play("deploy.yml")
    assert "changed=0" in third.output, third.output[-4000:]


def kill(campaign: Campaign, site: Site, at: str) -> None:
    before = campaign.number
    campaign.change()
    killed = campaign.play("deploy.yml", kill_at=at)
    # The negative control: it did not come to its end.
    assert not killed.succeeded
    assert "PLAY RECAP" not in killed.output
    assert served(site) in (before, campaign.number)
    recovers(campaign, site)


@pytest.mark.parametrize("at", SAMPLES.sample(TELLING, 1))
def test_killed_controller(campaign: Campaign, site: Site, boundaries: list[str], at: str) -> None:
    assert any(at in name for name in boundaries)
    kill(campaign, site, at)


def test_killed_controller_anywhere(campaign: Campaign, site: Site, boundaries: list[str]) -> None:
    numbers = range(1, len(boundaries) + 1)
    for number in sorted(SAMPLES.sample(numbers, min(RANDOM, len(boundaries)))):
        print(f"killed at {number}: {boundaries[number - 1]}")
        kill(campaign, site, str(number))


def booted(site: Site) -> str:
    """Tell when the server's first process began."""
    return site.on_server("stat", "-c", "%Z", "/proc/1")


def test_rebooted_server(campaign: Campaign, site: Site) -> None:
    before = campaign.number
    first = booted(site)
    campaign.change()
    environment = {**os.environ, "ANSIBLE_TIMEOUT": "10"}
    command = ["ansible-playbook", "playbooks/deploy.yml", "-e", "app=ledger"]
    command += [f"--inventory={path}" for path in campaign.inventories]
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        for line in run.stdout or ():
            if "Wait until the release is healthy" in line:
                break
        # The negative control: it was at work, and the server went away.
        assert run.poll() is None
        site.on_server("systemctl", "reboot", "--force")
        # A run that finds the server again in time goes on.
        run.communicate()

    def rebooted() -> None:
        assert booted(site) != first

    eventually(rebooted, seconds=120)
    assert eventually(lambda: served(site), seconds=120) in (before, campaign.number)
    recovers(campaign, site)
