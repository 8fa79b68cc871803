"""Advice on what an app cannot write, as an entry that preflight accepts; and on first runs."""

from pathlib import Path
from typing import Any

import pytest
from checks.apps import check_entry
from checks.writing import volume_for
from module_utils.app import App

from app import release_advice

TRACEBACK = """Traceback (most recent call last):
  File "/app/shop.py", line 4, in <module>
    {line}
OSError: [Errno 30] Read-only file system: '{path}'
"""


def advice(line: str, path: str, **entry: Any) -> str:
    return release_advice(TRACEBACK.format(line=line, path=path), {"module": "shop:app", **entry})


@pytest.mark.parametrize(
    ("line", "path", "volumes"),
    [
        ('os.mkdir("logs")', "logs", "[/app/logs]"),
        ('os.makedirs("var/log")', "var/log", "[/app/var/log]"),
        ("os.makedirs(app.instance_path)", "/app/instance", "[/app/instance]"),
        ("os.makedirs(app.instance_path)", "/app/src/instance", "[/app/src/instance]"),
        ("os.makedirs(path)", "/opt/venv/var/shop-instance", "[/opt/venv/var/shop-instance]"),
        ('open("data/x.json", "w")', "data/x.json", "[/app/data]"),
        ('open("./logs/x.log", "w")', "./logs/x.log", "[/app/logs]"),
        # A file beside the code is a volume of its own, by its suffix.
        ('logging.FileHandler("app.log")', "/app/app.log", "[/app/app.log]"),
        ('sqlite3.connect("shop.sqlite3")', "shop.sqlite3", "[/app/shop.sqlite3]"),
        ('open("shop/debug.log", "w")', "/app/shop/debug.log", "[/app/shop/debug.log]"),
    ],
)
def test_advice_works_in_one_step(line: str, path: str, volumes: str) -> None:
    text = advice(line, path)
    assert f"`volumes: {volumes}`" in text
    entry = {"name": "shop", "source": "", "volumes": [volumes.strip("[]")]}
    assert [f for f in check_entry(entry, "apps.shop") if "volumes" in f.variable] == []


def test_files_made_from_the_source_are_for_the_build() -> None:
    said = "OSError: [Errno 30] Read-only file system: {!r}"
    for path in ("app/translations/es/LC_MESSAGES/messages.mo", "/app/static/.webassets-cache"):
        text = release_advice(said.format(path))
        assert path in text and "build: flask assets build" in text and "volumes:" not in text
    # Negative control: an upload is not.
    text = release_advice(said.format("static/uploads/a.png"))
    assert "volumes: [/app/static/uploads]" in text


@pytest.mark.parametrize("path", ["state.json", "/app/shop/state.json", "/etc/app.conf"])
def test_a_file_beside_the_code_gets_another_place(path: str) -> None:
    text = advice(f'open("{path}", "w")', path)
    assert "volumes: [/app/data]" in text and "where no volume can be" in text


def test_an_image_of_its_own_has_no_files_that_are_volumes() -> None:
    assert "volumes: [/app/app.log]" not in advice(
        "open()", "/app/app.log", dockerfile="Dockerfile"
    )


def test_volumes_that_an_app_has_stay() -> None:
    text = advice('os.mkdir("logs")', "logs", volumes=["/app/uploads"])
    assert "`volumes: [/app/uploads, /app/logs]`" in text


def test_every_path_of_a_log_is_named_at_once() -> None:
    log = TRACEBACK.format(line="mkdir()", path="a") + TRACEBACK.format(line="mkdir()", path="b")
    assert "`volumes: [/app/a, /app/b]`" in release_advice(log)


@pytest.mark.parametrize(
    "log",
    [
        "mkdir: cannot create directory \u2018logs\u2019: Read-only file system",
        "mkdir: cannot create directory 'logs': Read-only file system",
        "sh: 1: cannot create logs/x: Read-only file system",
        "Error: 'logs/error.log' isn't writable [OSError(30, 'Read-only file system')]",
        'open("logs/x"): Read-only file system [core/logging.c line 288]',
        "FileNotFoundError: [Errno 2] No such file or directory: '/app/logs/app.log'",
    ],
)
def test_messages_of_other_programs_are_understood(log: str) -> None:
    assert "`volumes: [/app/logs]`" in release_advice(log)
    for word in ("Read-only file system", "No such", "writable"):
        log = log.replace(word, "x")
    assert release_advice(log) == ""


def test_a_read_only_file_system_without_a_path_is_named() -> None:
    assert "read-only except for /tmp" in release_advice("fatal: Read-only file system")


@pytest.mark.parametrize("path", ["/", "/app", "/app/src", "/usr/lib/x", "/proc/x", "/app/a b/"])
def test_no_volume_hides_what_the_image_has(path: str) -> None:
    assert volume_for(path, is_folder=True) in (None, "/usr/lib/x")


def test_a_file_that_is_a_volume_is_a_link_into_it() -> None:
    app = App.from_entry(
        {"name": "shop", "domains": ["a.test"], "volumes": ["/app/app.log", "/app/logs"]}
    )
    assert app.links == {"/app/app.log": "/opt/flask-vps/files/app-app.log/app.log"}
    assert [mount["path"] for mount in app.mounts] == [
        "/opt/flask-vps/files/app-app.log",
        "/app/logs",
    ]
    own = {"name": "shop", "domains": ["a.test"], "volumes": ["/app/app.log"], "dockerfile": "D"}
    # An image of one's own has no links.
    assert App.from_entry(own).mounts[0]["path"] == "/app/app.log"


@pytest.mark.parametrize(
    "log",
    [
        "DAMN ! worker 1 (pid: 9) died, killed by signal 9 :( trying respawn ...",
        "its container web ran out of memory: raise memory_mb",
        "it ended with exit code 137",
        "[ERROR] Worker (pid:8) was sent SIGKILL! Perhaps out of memory?",
    ],
)
def test_a_kill_for_want_of_memory_names_the_limit(log: str) -> None:
    assert "Killed: 64 MB were not enough" in release_advice(log, {"memory_mb": 64})
    assert "Killed" not in release_advice("killed by signal 15", {"memory_mb": 64})


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("sqlite3.OperationalError: table user already exists", "`processes: 1`"),
        ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked", "setup"),
        ("IntegrityError: UNIQUE constraint failed: alembic_version.version_num", "`init`"),
        ("sqlite3.OperationalError: no such table: user", "table user does not exist"),
        ('UndefinedTable: relation "post" does not exist', "table post does not exist"),
        ("No module named 'psycopg2'", "database_url_scheme: postgresql+psycopg"),
        ('permission denied to create extension "postgis"', "`extensions: [postgis]`"),
        ("RuntimeError: can't start new thread", "lower `threads`"),
        (
            "ImportError: cannot import name 'Celery' from 'celery' "
            "(/opt/venv/lib/python3.13/site-packages/celery/__init__.py)",
            "celery has no Celery. Update what",
        ),
        (
            "FileNotFoundError: [Errno 2] Unable to load configuration file (No such file or "
            "directory): '/app/instance/config.py'",
            '`files: {instance/config.py: "{{ vault_NAME }}"}`',
        ),
    ],
)
def test_errors_of_the_first_run_are_explained(log: str, said: str) -> None:
    assert said in release_advice(f"Traceback (most recent call last):\n{log}")


def test_the_instance_folder_is_the_app_s_own() -> None:
    log = "sqlite3.OperationalError: unable to open database file"
    said = release_advice(log, {"volumes": ["/app/x"]}, "/app/src/instance")
    assert "`volumes: [/app/x, /app/src/instance]`" in said
    failed = Path(__file__).parents[2] / "roles/app/tasks/deploy/report_failed.yml"
    assert "release_advice(app_entry, instance)" in failed.read_text()
