"""The first release of an app: setup, the dumps before it, and commands that drop tables."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.docker_cli import RefusedError
from ansible.module_utils.dump_folder import Dumps
from ansible.module_utils.sqlite_files import PROGRAM, SqliteFiles
from checks.apps import check_entry
from checks.first_run import check_first_run
from module_utils.app import App

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "roles/app/tasks/deploy"


# -- the setup command -----------------------------------------------------------------------------


def tasks(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_setup_runs_before_the_release_command_and_the_start() -> None:
    (block, *_) = tasks("start.yml")
    names = [task["name"] for task in block["block"]]
    setup = names.index("Run the setup command before the first release")
    assert setup < names.index("Run the release command before the first start")
    assert setup < names.index(
        "App | Start the release beside the old one, where no request reaches it"
    )
    assert block["block"][setup]["when"] == "__app_has_setup"


def test_setup_never_runs_again() -> None:
    """Neither after a failed deploy that ran it, nor in a rollback, nor with other releases."""
    look, run = tasks("setup.yml")
    assert look["ansible.builtin.stat"]["path"] == "{{ __app_dir }}/setup.json"
    assert run["when"] == "not __app_setup_record.stat.exists"
    steps = [task["name"] for task in run["block"]]
    order = [
        "Dump the database before the setup command",
        "Run the setup command in the new release",
    ]
    record = "App | Record that the setup command has run"
    assert [steps.index(name) for name in (*order, record)] == sorted(
        steps.index(name) for name in (*order, record)
    )
    variables = yaml.safe_load((ROOT / "roles/app/vars/main.yml").read_text())
    for part in ("not __app_is_rollback", "__app_releases.served | length == 0"):
        assert part in variables["__app_has_setup"]
    # Removing an app keeps the record: no task of the removal touches the app's folder.
    traces = variables["__app_traces"]
    assert not [path for path in traces if path in ("{{ app_dir }}", "{{ __app_dir }}/setup.json")]


def test_a_changed_setup_command_makes_no_release() -> None:
    app = {"name": "shop", "domains": ["shop.test"], "setup": "flask init-db", "init": "x"}
    assert App.from_entry(app).release_keys.keys() == {"name", "init"}


# -- commands that drop ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "init",
    [
        "flask init-db",
        "flask --app flaskr init-db",
        "FLASK_APP=flaskr python -m flask init_db && flask seed",
        "flask initdb --drop",
        "flask db downgrade base",
        "python init_db.py",
        "python manage.py recreate_db",
        "sqlite3 /data/app.db < schema.sql",
        "psql $DATABASE_URL -c 'DROP TABLE user'",
        "rm -f /data/app.db && flask db upgrade",
    ],
)
def test_a_release_command_that_drops_is_a_warning(init: str) -> None:
    (finding,) = check_first_run({"init": init, "source": "git@host:shop"}, "apps.shop")
    assert finding.warning and "Use setup, which runs once" in finding.fix
    # As the setup command it is right.
    assert check_first_run({"setup": init, "source": "git@host:shop"}, "apps.shop") == []


@pytest.mark.parametrize(
    "init",
    [
        "flask db upgrade",
        "python -m shop.setup.init_db",
        "flask create-admin",
        "alembic upgrade head",
    ],
)
def test_other_release_commands_are_none(init: str) -> None:
    assert check_first_run({"init": init, "source": "git@host:shop"}, "apps.shop") == []


def test_a_source_without_code_that_drops_is_believed(tmp_path: Path) -> None:
    entry = {"init": "flask init-db", "source": str(tmp_path)}
    (tmp_path / "shop.py").write_text("db.create_all()")
    assert check_first_run(entry, "apps.shop") == []
    (tmp_path / "schema.sql").write_text("DROP TABLE IF EXISTS user;")
    assert check_first_run(entry, "apps.shop") != []


def test_the_same_command_twice_is_a_warning() -> None:
    entry = {"setup": "flask db upgrade", "init": "flask db upgrade"}
    assert "same command as init" in str(check_first_run(entry, "apps.shop")[0])


def test_files_are_compiled_during_the_build() -> None:
    entry = {"init": "flask db upgrade && pybabel compile -d tr", "source": "git@host:shop"}
    (finding,) = check_first_run(entry, "apps.shop")
    assert finding.warning and "Move that into build" in str(finding)
    assert check_first_run({**entry, "dockerfile": "Dockerfile"}, "apps.shop") == []


def test_a_setup_command_has_one_line() -> None:
    found = check_entry({"name": "shop", "setup": "flask a\nflask b"}, "apps.shop")
    assert [f.variable for f in found] == ["apps.shop.setup"]


# -- dumps of SQLite files -------------------------------------------------------------------------


def run(volumes: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    program = PROGRAM.replace("/volumes", str(volumes))
    command = [sys.executable, "-I", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, check=False)


def database(file: Path, rows: int = 1) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(file)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("CREATE TABLE note (text)")
    base.executemany("INSERT INTO note VALUES (?)", [("x",)] * rows)
    base.commit()
    return base


def test_sqlite_files_of_volumes_are_dumped_whole(tmp_path: Path) -> None:
    volumes = tmp_path / "volumes"
    # Open, with all rows in its log.
    base = database(volumes / "shop.app-instance/flaskr.sqlite", 3)
    (volumes / "shop.app-instance/notes.txt").write_text("x")
    (volumes / "shop.app-instance/link.db").symlink_to("flaskr.sqlite")
    database(volumes / "shop.data/app.db").close()
    known = str(volumes / "shop.data/app.db")
    sizes = json.loads(run(volumes, "look", known).stdout)
    assert list(sizes) == [str(volumes / "shop.app-instance/flaskr.sqlite")]
    done = run(volumes, "dump", known)
    assert done.returncode == 0, done.stderr
    # Unpacked in the engine's folder of volumes, it is back in its place.
    (tmp_path / "back").mkdir()
    unpack = ["tar", "--extract", "--directory", str(tmp_path / "back")]
    subprocess.run(unpack, input=done.stdout, check=True)
    file = tmp_path / "back/shop.app-instance/_data/flaskr.sqlite"
    assert sqlite3.connect(file).execute("SELECT count(*) FROM note").fetchone() == (3,)
    assert [p.name for p in volumes.rglob("*flask-vps-dump*")] == []
    base.close()


def test_a_damaged_sqlite_file_stops_the_dump(tmp_path: Path) -> None:
    (tmp_path / "shop.x").mkdir()
    (tmp_path / "shop.x/bad.db").write_bytes(b"SQLite format 3\0" + b"x" * 100)
    done = run(tmp_path, "dump")
    assert done.returncode == 1 and b"bad.db" in done.stderr


class Files(SqliteFiles):
    """SQLite files without a container."""

    def __init__(self, found: dict[str, int], error: str = "") -> None:
        super().__init__("shop", ["python"], "none")
        self.found, self.error = found, error

    def sizes(self) -> dict[str, int]:
        return self.found

    def dump(self, target: Path, sizes: dict[str, int]) -> None:
        target.write_text("tar")
        if self.error:
            raise RefusedError(self.error)


def test_dumps_of_files_are_named_marked_and_pruned_like_others(tmp_path: Path) -> None:
    dumps = Dumps("shop", tmp_path)
    assert dumps.make_archive(Files({}), "abc") == {} and not dumps.folder.exists()
    dumps.folder.mkdir()
    for n in range(7):
        (dumps.folder / f"2020010{n + 1}T080000Z-before-r{n}.sqlite.tar").touch()
    made = dumps.make_archive(Files({"/volumes/shop.x/a.db": 10}), "abc")["name"]
    assert made.endswith("-before-abc.sqlite.tar") and made in dumps.archives()
    assert dumps.names() == []
    assert dumps.prune(5, 0) == [f"2020010{n + 1}T080000Z-before-r{n}.sqlite.tar" for n in range(3)]
    assert dumps.mark("abc") == [made]
    assert made.replace(".sqlite", "-failed.sqlite") in dumps.archives()
    with pytest.raises(RefusedError, match="restored by hand"):
        dumps.find(dumps.archives()[0])


def test_a_dump_of_files_that_fails_leaves_nothing(tmp_path: Path) -> None:
    dumps = Dumps("shop", tmp_path)
    with pytest.raises(RefusedError, match="SQLite files of shop could not be dumped: locked"):
        dumps.make_archive(Files({"a": 1}, "locked"), "abc")
    assert list(dumps.folder.iterdir()) == []
