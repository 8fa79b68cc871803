"""A deploy is killed at any task: the site is still served, and the next run repairs everything."""

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
# A task in each phase of a deploy. A test run kills deploys at a sample of these and of all tasks;
# `make test-chaos` uses all.
TELLING = [
    "App | Build the image",
    "App | Run the release command",
    "App | Wait until the release is healthy",
    "App | Give the release the traffic",
    "App | Let older releases finish",
]
RANDOM = int(os.environ.get("CHAOS_RANDOM", "1"))
# The scenario prints its seed, so that a sample can be repeated.
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
        # Larger than the release numbers that the scenario `deploy` may have left.
        number=int(time.time()) % 10**6,
    )


@pytest.fixture(scope="module")
def boundaries(campaign: Campaign) -> list[str]:
    """The tasks of a deploy with a changed source."""
    deploy = campaign.deploy()
    assert deploy.succeeded, deploy.output[-4000:]
    return [task for _, task in deploy.tasks]


def served(site: Site) -> int:
    """Return the number of the live release."""
    answer = site.request("/")
    assert answer.status == 200, answer.body
    return int(re.search(r"release (\d+)", answer.body)[1])


def recovers(campaign: Campaign, site: Site) -> None:
    """The next run succeeds, and one more changes nothing."""
    again = campaign.play("deploy.yml")
    assert again.succeeded, again.output[-4000:]
    assert served(site) == campaign.number
    third = campaign.play("deploy.yml")
    assert "changed=0" in third.output, third.output[-4000:]


def kill(campaign: Campaign, site: Site, at: str) -> None:
    before = campaign.number
    campaign.change()
    killed = campaign.play("deploy.yml", kill_at=at)
    # Negative control: the run was really killed.
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
    """Return the start time of the server's first process."""
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
        # Negative control: the run was still at work when the server rebooted.
        assert run.poll() is None
        site.on_server("systemctl", "reboot", "--force")
        # The run continues if the server is back in time.
        run.communicate()

    def rebooted() -> None:
        assert booted(site) != first

    eventually(rebooted, seconds=120)
    assert eventually(lambda: served(site), seconds=120) in (before, campaign.number)
    recovers(campaign, site)
