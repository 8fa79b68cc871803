"""What a run says and does when an app fails."""

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
import yaml
from conftest import Site, eventually
from runs import play

INVENTORY = Path(__file__).parents[1] / "inventory/hosts.yml"
MODULE = Path(__file__).parents[3] / "plugins/modules/release_health.py"
NAME = "hostile-ends"


@pytest.fixture
def module(site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module release_health, run on this machine with the server's Docker engine."""
    spec = importlib.util.spec_from_file_location("release_health", MODULE)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)

    def docker(*arguments: str, **_: Any) -> subprocess.CompletedProcess[str]:
        command = ["docker", "exec", site.server, "docker", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    monkeypatch.setattr(found, "docker", docker)
    return found


@pytest.fixture
def image(site: Site) -> Iterator[str]:
    images = {c["Config"]["Image"] for c in site.containers().values()}
    yield next(image for image in sorted(images) if image.startswith("flask-vps/probe:"))
    site.on_server("docker", "rm", "--force", NAME)


def test_the_exit_code_of_the_first_end_is_told(site: Site, module: Any, image: str) -> None:
    """The container's state shows no error any more once Docker has restarted it."""
    # Exits with 22, then with 0, then keeps running.
    script = """[ -e /tmp/2 ] && exec sleep 600; [ -e /tmp/1 ] && touch /tmp/2 && exit 0
touch /tmp/1; exit 22"""
    label = "com.docker.compose.service=web"
    options = ["--detach", "--name", NAME, "--restart", "always", "--network", "none"]
    entry = ["--label", label, "--entrypoint", "sh", image, "-c", script]
    site.on_server("docker", "run", *options, *entry)

    def described() -> dict[str, Any]:
        found = json.loads(site.on_server("docker", "inspect", NAME))[0]
        assert found["RestartCount"] == 2 and found["State"]["Running"]
        return found

    container = eventually(described, seconds=20)
    # Negative control: the state alone says 0.
    assert container["State"]["ExitCode"] == 0
    assert module.ended(container, 0) == "its container web ended with exit code 22"


def test_one_broken_app_does_not_keep_the_others_from_being_deployed(site: Site) -> None:
    probe = yaml.safe_load(INVENTORY.read_text())["servers"]["hosts"]["dev"]["scenario_probe"]
    broken = {"scenario_probe": {**probe, "module": "nowhere:app"}}
    mark = "import os; print(os.environ.get('MARK'))"
    current = ("readlink", "/opt/flask-vps/edge/routes/probe/current")
    before = site.on_server(*current)

    news = {**broken, "scenario_environment": {"MARK": "new"}}
    chosen = ("-e", "app=probe,probe_http")
    code, said = play("deploy.yml", *chosen, "-e", json.dumps(news))
    assert code != 0
    assert "1 of 2 apps could not be deployed:" in said, said
    assert "- probe: Release " in said
    # The broken one comes first, and keeps its release; the other one has its new release.
    assert site.on_server(*current) == before
    assert hostile.run_inside(site, mark, hostile.PROBE_HTTP).strip() == "new"

    code, said = play("deploy.yml", *chosen)
    assert code == 0, said
    assert hostile.run_inside(site, mark, hostile.PROBE_HTTP).strip() == "None"


def test_a_failed_switch_leaves_the_old_release_alone(site: Site) -> None:
    probe = yaml.safe_load(INVENTORY.read_text())["servers"]["hosts"]["dev"]["scenario_probe"]
    entry = {**probe, "environment": {"MARK": "switch"}}
    current = ("readlink", "/opt/flask-vps/edge/routes/probe/current")
    before = site.on_server(*current)
    containers = set(site.containers())
    # In the way of the new link to the static files, which is renamed to `current`.
    obstacle = "/opt/flask-vps/edge/static/probe/.current.new"
    site.on_server("mkdir", obstacle)
    try:
        code, said = play(
            "deploy.yml", "-e", "app=probe", "-e", json.dumps({"scenario_probe": entry})
        )
    finally:
        site.on_server("rmdir", obstacle)
    assert code != 0
    assert 'failed at "Give the release the traffic"' in said, said
    assert site.on_server(*current) == before
    assert set(site.containers()) == containers
    assert "failed" in play("status.yml", "-e", "app=probe")[1]
