"""Why a container ended is still known after Docker has restarted it."""

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, eventually

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
