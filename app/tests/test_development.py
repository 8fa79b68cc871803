"""The commands for development in README.md, without further settings."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

APP = Path(__file__).parents[1]
README = (APP / "README.md").read_text()
SETTINGS = re.compile(r"APP_ENV|FLASK_|.*_DIR$|DATABASE_URL|SECRET_KEY|INSTANCE_PATH|TRUSTED_PROXY")


def environment(folder: Path, **extra: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not SETTINGS.match(name)}
    python = str(Path(sys.executable).parent)
    return clean | {
        "PATH": f"{python}{os.pathsep}{clean['PATH']}",
        "PYTHONUNBUFFERED": "1",
        # Empty, as in a clean clone.
        "INSTANCE_PATH": str(folder),
        **extra,
    }


@contextmanager
def development_server(folder: Path, *options: str, **extra: str) -> Iterator[tuple[int, Path]]:
    """Start ``flask run``, and return its port and the file with its output."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["flask", "run", "--port", str(port), *options],
            cwd=APP,
            env=environment(folder, FLASK_APP="src/my_flask_webpage/__init__.py", **extra),
            stdout=output,
            stderr=subprocess.STDOUT,
            # The reloader runs the app in a second process.
            start_new_session=True,
        )
    try:
        yield port, log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=10)


def ask(port: int, path: str, log: Path) -> int:
    """Repeat a request until there is a response, for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_flask_run_needs_no_setting_and_prints_each_request_once(
    tmp_path: Path, options: list[str]
) -> None:
    init = [sys.executable, "-m", "my_flask_webpage.setup.init_db"]
    subprocess.run(init, cwd=APP, env=environment(tmp_path, APP_ENV="development"), check=True)
    with development_server(tmp_path, *options) as (port, log):
        assert ask(port, "/?first", log) == 200
        assert ask(port, "/readyz", log) == 200
        printed = log.read_text()
    assert printed.count("GET /?first") == 1, printed
    assert "SECRET_KEY" not in printed


def test_flask_run_is_as_strict_as_production_where_that_is_asked_for(tmp_path: Path) -> None:
    command = ["flask", "run", "--port", "0"]
    settings = environment(
        tmp_path, FLASK_APP="src/my_flask_webpage/__init__.py", APP_ENV="production"
    )
    done = subprocess.run(
        command, cwd=APP, env=settings, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert "SECRET_KEY is missing" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", [["flask", "user", "list"], ["python", "-m", "my_flask_webpage.setup.init_db"]]
)
def test_only_the_development_server_selects_development_settings(
    tmp_path: Path, command: list[str]
) -> None:
    settings = environment(tmp_path, FLASK_APP="src/my_flask_webpage/__init__.py")
    done = subprocess.run(
        command, cwd=APP, env=settings, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert "SECRET_KEY is missing" in done.stdout + done.stderr


def test_scripts_of_pdm_need_no_setting(tmp_path: Path) -> None:
    scripts = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["pdm"]["scripts"]
    for name, arguments in (("init", []), ("flask", ["user", "list"]), ("flask", ["db", "check"])):
        done = subprocess.run(
            [*scripts[name]["cmd"].split(), *arguments],
            cwd=APP,
            env=environment(tmp_path, **scripts[name]["env"]),
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, (name, arguments, done.stdout + done.stderr)


def test_the_commands_for_a_plain_virtual_environment_work_as_they_stand(tmp_path: Path) -> None:
    block = re.split(r"plain virtual\s+environment", README)[1].split("```")[1]
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    # Not run here: the environment of these tests is installed already, and the tests are running.
    own = [c for c in commands if not re.match(r"python3 -m venv|pip install|.*pytest", c)]
    assert len(own) == 3, commands
    script = "\n".join(["set -e", *own]).replace(
        "flask run", "timeout --signal=INT 6 flask run --port 0"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=APP, env=environment(tmp_path), capture_output=True, text=True
    )
    assert "Debugger is active" in done.stderr, done.stdout + done.stderr
