"""The content of the wheel, and the other ways to install the app."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "src/my_flask_webpage"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built the way installers build it."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from pdm.backend import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as opened:
        yield opened


def test_wheel_has_all_that_the_app_is_made_of(wheel: zipfile.ZipFile):
    names = set(wheel.namelist())
    wanted = {
        f"my_flask_webpage/{file.relative_to(PACKAGE).as_posix()}"
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted <= names
    for part in ("templates/base.html", "static/style.css", "resource/projects.json",
                 "resource/images/lantern-night.jpg", "migrations/versions/0001_first_tables.py",
                 "migrations/alembic.ini"):  # fmt: skip
        assert f"my_flask_webpage/{part}" in names


def test_wheel_has_nothing_else(wheel: zipfile.ZipFile):
    for name in wheel.namelist():
        assert re.match(r"my_flask_webpage(-[0-9.]+\.dist-info)?/", name)
        assert not re.search(
            r"(^|/)(tests?|\.git|\.env|instance|tools)(/|$)|\.(db|pyc|key|pem)$", name
        )
        assert b"PRIVATE KEY" not in wheel.read(name)


def test_installed_wheel_migrates_and_serves(wheel: zipfile.ZipFile, tmp_path: Path):
    """The wheel contains everything that the app needs."""
    wheel.extractall(tmp_path / "site")
    code = (
        "import my_flask_webpage as package; from my_flask_webpage.setup.database import init_db;"
        "init_db(package.app); print(package.__file__, package.app.instance_path);"
        "print(package.app.test_client().get('/projects/tidewater').status_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(tmp_path / "site"),
            "APP_ENV": "development",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}",
            "MEDIA_DIR": str(tmp_path / "media"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0].startswith(str(tmp_path))
    assert done.stdout.split()[-1] == "200"


def test_windows_does_without_uwsgi():
    lock = (PROJECT / "pdm.lock").read_text()
    entry = re.search(r'\[\[package\]\]\nname = "uwsgi"\n.*?(?=\n\[\[|\Z)', lock, re.DOTALL)[0]
    assert r"sys_platform != \"win32\"" in entry
    assert "sys_platform != 'win32'" in (PROJECT / "pyproject.toml").read_text()


def test_flask_run_finds_the_app_by_its_file():
    """Import the app the way FLASK_APP=src/my_flask_webpage/__init__.py does."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "routes"],
        env={
            "PATH": os.environ["PATH"],
            "APP_ENV": "testing",
            "FLASK_APP": "src/my_flask_webpage/__init__.py",
        },
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pages.project" in done.stdout
