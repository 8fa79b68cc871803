"""`status.yml` names what does not run, and fails."""

from collections.abc import Iterator

import hostile
import pytest
from conftest import Site, eventually
from runs import play


@pytest.fixture
def stopped(site: Site) -> Iterator[str]:
    """The stopped container of an app; it is started again after the test."""
    name = next(name for name in site.containers() if name.startswith("probe-") and "-web-" in name)
    site.on_server("docker", "stop", "--time", "1", name)
    yield name
    site.on_server("docker", "start", name)
    eventually(lambda: hostile.run_inside(site, "print(1)"))


def test_a_stopped_container_is_named(site: Site, stopped: str) -> None:
    code, said = play("status.yml", "-e", "app=probe")
    assert code != 0, said
    wrong = said.partition("Something is wrong on")[2]
    assert f"- {stopped}: is exited" in wrong
    # The response that visitors get.
    assert f"- https://{hostile.PROBE}/: it answers 50" in wrong
    # The rest of the server is still shown.
    assert "edge-nginx-1" in said and "CONTAINER" in said and "DISK" in said and "live" in said


def test_nothing_of_that_is_said_of_an_app_that_runs(site: Site) -> None:
    # Negative control: the same app when it runs again.
    eventually(lambda: hostile.run_inside(site, "print(1)"))
    code, said = play("status.yml", "-e", "app=probe")
    wrong = said.partition("Something is wrong on")[2]
    assert "probe-" not in wrong and f"https://{hostile.PROBE}/" not in wrong, wrong
    assert "changed=0" in said
    assert code == 0 or wrong
