"""Dumps and restores: which dumps stay, which are refused, and what a killed restore leaves."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import database_restore, docker_cli, postgres_database
from ansible.module_utils.database_restore import Restore
from ansible.module_utils.docker_cli import RefusedError, plain_errors
from ansible.module_utils.dump_folder import Dumps
from ansible.module_utils.dumps import REPLACED, age, parse_name, stale_dumps
from ansible.module_utils.postgres_archive import belongs_to_app, contents_error, parse_contents
from ansible.module_utils.postgres_database import psql_variable
from ansible.module_utils.sqlite_database import SQLITE
from checks.memory import check_memory, limits, postgres_memory

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)


def named(days: int, clock: str, reason: str) -> str:
    """Return the name of a dump that is some days old."""
    return f"{NOW - timedelta(days=days):%Y%m%d}T{clock}Z-before-{reason}.dump"


# -- which dumps stay -----------------------------------------------------------------------------


def test_a_name_says_when_and_before_what() -> None:
    dump = parse_name("20261129T080000Z-before-0123456789ab.dump")
    assert (dump.taken.hour, dump.reason, dump.failed, dump.sort) == (
        8, "0123456789ab", False, "release",
    )  # fmt: skip
    assert parse_name("20261129T080000Z-before-0123456789ab-failed.dump").sort == "failed"
    assert parse_name("20261129T080000Z-before-restore.dump").sort == "restore"
    for stranger in ("mine.dump", "20261399T080000Z-before-a.dump", ".20261129T080000Z.part"):
        assert parse_name(stranger) is None


def test_an_afternoon_of_deploys_does_not_push_out_the_last_dump_of_yesterday() -> None:
    today = [named(0, f"{hour:02}0000", f"r{hour}") for hour in range(9)]
    week = [named(days, "090000", f"d{days}") for days in range(1, 10)]
    early = named(1, "080000", "early")
    stale = stale_dumps([*today, *week, early], kept=5, days=7, now=NOW)
    assert stale == sorted([*today[:4], *week[6:], early])
    # Negative control: the old rule, which kept only the newest five.
    assert set(sorted([*today, *week])[:-5]) > set(stale) - {early}


def test_dumps_before_failed_releases_push_out_no_good_one() -> None:
    good = [named(20 - n, "090000", f"good{n}") for n in range(3)]
    failed = [named(0, f"1{n}0000", "bad-failed") for n in range(8)]
    assert stale_dumps([*good, *failed], kept=5, days=7, now=NOW) == failed[:3]
    # A failed deploy's dump is kept as the day's dump only if the day has no other.
    today = named(0, "090000", "fine")
    more = [named(0, f"2{n}0000", f"other{n}") for n in range(3)]
    kept = {*good, *failed, today, *more} - set(
        stale_dumps([*good, *failed, today, *more], kept=1, days=1, now=NOW)
    )
    assert kept == {failed[-1], more[-1]}


def test_a_dump_before_a_restore_does_not_take_the_place_of_its_day_s_own() -> None:
    own, restore = named(1, "080000", "r1"), named(1, "090000", "restore")
    today = [named(0, f"{hour:02}0000", f"t{hour}") for hour in range(5)]
    assert stale_dumps([own, restore, *today], kept=5, days=7, now=NOW) == []
    assert stale_dumps([own, restore, *today], kept=5, days=1, now=NOW) == [own]
    alone = [restore, *(named(0, f"1{n}0000", "restore") for n in range(5)), *today]
    assert restore not in stale_dumps(alone, kept=5, days=7, now=NOW)


def test_dumps_before_restores_and_removals_are_counted_apart() -> None:
    releases = [named(30 + n, "090000", f"r{n}") for n in range(5)]
    others = [named(10, f"0{n}0000", reason) for n in range(7) for reason in ("restore", "removal")]
    assert stale_dumps([*releases, *others], 5, 7, NOW) == sorted(others[:4])


def test_files_of_somebody_else_stay_and_so_does_all_when_none_is_made() -> None:
    names = ["before-migration.dump", *(named(40 + n, "090000", "a") for n in range(9))]
    assert "before-migration.dump" not in stale_dumps(names, 1, 0, NOW)
    assert stale_dumps(names, 0, 7, NOW) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "less than a minute"), (60, "1 minute"), (7300, "2 hours"), (200000, "2 days")],
)
def test_ages_are_told_in_one_unit(seconds: int, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


# -- what is in a dump ----------------------------------------------------------------------------

LISTED = """;
; Archive created at 2026-11-29 14:34:24 UTC
;     dbname: shop
;     TOC Entries: 78
;     Dumped from database version: 17.12 (Debian 17.12-0+deb13u1)
;     Dumped by pg_dump version: 17.12 (Debian 17.12-0+deb13u1)
;
9; 2615 16584 SCHEMA - extra shop
4; 3079 16585 EXTENSION - hstore\x20
3709; 0 0 COMMENT - EXTENSION hstore\x20
234; 1259 16722 TABLE extra Odd Näme shop
3712; 0 0 SEQUENCE OWNED BY extra Odd Näme_id_seq shop
232; 1259 16713 MATERIALIZED VIEW public mv shop
3697; 0 16722 TABLE DATA extra Odd Näme shop
3699; 2613 16720 BLOB METADATA - 16720 shop
3719; 0 0 ACL - SCHEMA public pg_database_owner
"""


def test_a_table_of_contents_is_read() -> None:
    found = parse_contents(LISTED)
    assert (found.database, found.major, len(found.entries)) == ("shop", 17, 9)
    assert found.named("TABLE", "MATERIALIZED VIEW") == {("extra", "Odd Näme"), ("public", "mv")}
    assert found.named("EXTENSION") == {("-", "hstore")}
    assert {entry.kind for entry in found.entries} >= {"SEQUENCE OWNED BY", "BLOB METADATA"}
    # An entry's line is passed to pg_restore unchanged.
    assert found.entries[1].line == "4; 3079 16585 EXTENSION - hstore "


def test_dumps_of_others_and_of_newer_servers_are_refused() -> None:
    found = parse_contents(LISTED)
    assert contents_error(found, "shop", 17) == ""
    assert contents_error(found, "shop", 18) == ""
    assert "is a dump of shop, not of blog" in contents_error(found, "blog", 17)
    assert "made by Postgres 17, and shop has Postgres 16" in contents_error(found, "shop", 16)
    # A dump of a database that a restore replaced.
    kept = parse_contents(LISTED.replace("dbname: shop", "dbname: shop_before_20261129t120000z"))
    assert contents_error(kept, "shop", 17) == ""
    assert "is a dump of shop_before" in contents_error(kept, "blog", 17)
    assert "an unknown database" in contents_error(parse_contents(""), "shop", 17)


def test_replaced_databases_are_told_from_others() -> None:
    for name in ("my-shop_before_20261129t120000z", "app.db.after_20261129t120000z"):
        assert REPLACED.fullmatch(name)
    for name in ("shop_restore_20261129t120000z", "app.db.before_lunch", "shop"):
        assert not REPLACED.fullmatch(name)


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        ("pg_restore: error: unsupported version (1.99) in file header", "a newer version"),
        ("pg_restore: error: could not read from input file: end of file", "not a whole dump"),
        ("pg_restore: error: input file appears to be a text format dump. x", "is SQL text"),
    ],
)
def test_a_dump_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, wrong: str
) -> None:
    def fail(*_: str, **__: Any) -> str:
        raise RefusedError(error)

    monkeypatch.setattr(postgres_database, "docker", fail)
    (tmp_path / "a.dump").write_bytes(b"PGDMP")
    with pytest.raises(RefusedError, match=wrong):
        postgres_database.Postgres("shop").check(tmp_path / "a.dump")


def test_check_mode_starts_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(postgres_database, "inspect", lambda _name: {"State": {}})
    monkeypatch.setattr(postgres_database, "is_running", lambda _name: False)
    monkeypatch.setattr(postgres_database, "docker", lambda *words: started.extend(words))
    monkeypatch.setattr(
        postgres_database, "run", lambda _command: subprocess.CompletedProcess([], 0)
    )
    with pytest.raises(RefusedError, match=r"shop-db-db-1 does not run\. Check mode"):
        postgres_database.Postgres("shop").check_runs(start=False)
    assert started == []
    postgres_database.Postgres("shop").check_runs()
    assert started == ["start", "shop-db-db-1"]


def test_what_others_own_is_not_restored_by_the_app() -> None:
    assert belongs_to_app(parse_contents(LISTED), "shop")
    other = LISTED + "5; 1259 1 TABLE public audit auditor\n"
    assert not belongs_to_app(parse_contents(other), "shop")


def test_rows_do_not_show_up_in_errors() -> None:
    said = (
        "pg_restore: while PROCESSING TOC:\n"
        "pg_restore: from TOC entry 3688; 0 16403 TABLE DATA message shop\n"
        'pg_restore: error: COPY failed for table "message": ERROR:  duplicate key value\n'
        "DETAIL:  Key (email)=(ada@example.org) already exists.\n"
        "CONTEXT:  COPY message, line 3: hunter2\n"
        "Command was: INSERT hunter2"
    )
    error = plain_errors(said)
    assert error == (
        'pg_restore: error: COPY failed for table "message": ERROR:  duplicate key value'
    )
    assert plain_errors("one\ntwo") == "one; two"
    long = plain_errors("error: " + "word " * 200)
    assert long.endswith("word ...") and len(long) <= 600


def test_values_reach_sql_as_they_are() -> None:
    assert psql_variable("x", "it's \\ 1\n2") == "\\set x 'it''s \\\\ 1\\n2'\n"


# -- the folder of dumps --------------------------------------------------------------------------


class Fake:
    """A database engine whose databases are lines of a file, so that they outlive a process."""

    kind = "postgres"

    def __init__(self, file: Path) -> None:
        self.file, self.app, self.steps_left = file, "shop", -1
        self.broken: set[str] = set()

    def read(self) -> dict[str, Any]:
        return json.loads(self.file.read_text())

    def step(self, name: str, change: Any = None) -> None:
        """Apply a change, and kill this process before or after it if the test wants that."""
        for part in ("before", "after"):
            if self.steps_left == 0:
                os._exit(9)
            self.steps_left -= 1
            if part == "before":
                if name in self.broken:
                    raise RefusedError(f"{name} is broken")
                state = self.read()
                if change:
                    change(state)
                fresh = self.file.with_suffix(".new")
                fresh.write_text(json.dumps(state))
                fresh.rename(self.file)

    def check_runs(self, start: bool = True) -> None: ...

    def is_empty(self) -> bool:
        return not self.read()["databases"][self.app]

    def size(self) -> int:
        return 1000

    def names(self) -> list[tuple[str, int]]:
        return [(name, 1000) for name in self.read()["databases"] if name != self.app]

    def exists(self, name: str) -> bool:
        return name in self.read()["databases"]

    def dump(self, target: Path) -> None:
        target.write_text("part of it")
        self.step("dump")
        target.write_text(self.read()["databases"][self.app])

    def check(self, file: Path) -> str:
        self.step("check")
        return file.read_text()

    def refusal(self, _contents: str) -> str:
        return ""

    def rows(self, _database: str) -> dict[str, int | None]:
        return {"message": 1}

    def restore(self, file: Path, contents: str, name: str) -> list[str]:
        self.step("create", lambda s: s["databases"].update({name: ""}))
        self.step("restore", lambda s: s["databases"].update({name: contents}))
        return []

    def drop(self, name: str) -> None:
        self.step("drop", lambda s: s["databases"].pop(name, None))

    def forget(self, name: str) -> None: ...

    def connections(self) -> int:
        return self.read()["limits"].get(self.app, -1)

    def close(self) -> None:
        self.limit(self.app, 0)

    def limit(self, name: str, connections: int) -> None:
        self.step("limit", lambda s: s["limits"].update({name: connections}))

    def rename(self, away: str, back: str) -> None:
        def swap(state: dict[str, Any]) -> None:
            for kind in ("databases", "limits"):
                old, new = state[kind].pop(self.app, None), state[kind].pop(back, None)
                state[kind].update({away: old, self.app: new})

        self.step("rename", swap)

    def replaced(self, stamp: str) -> str:
        return f"shop_before_{stamp}"

    def copy(self, stamp: str) -> str:
        return f"shop_restore_{stamp}"

    def undone(self, stamp: str) -> str:
        return f"shop_after_{stamp}"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    file = tmp_path / "state.json"
    state = {"databases": {"shop": "new"}, "limits": {"shop": 20}, "running": ["web", "worker"]}
    file.write_text(json.dumps(state))
    engine = Fake(file)
    monkeypatch.setattr(database_restore, "is_running", lambda _name: False)
    monkeypatch.setattr(database_restore, "docker_root", lambda: tmp_path)
    monkeypatch.setattr(
        database_restore,
        "containers",
        lambda _app: [{"name": n, "job": False} for n in engine.read()["running"]],
    )
    # A container that is started twice runs once.
    monkeypatch.setattr(
        database_restore,
        "stop",
        lambda names: engine.step(
            "stop", lambda s: s.update(running=[n for n in s["running"] if n not in names])
        ),
    )
    monkeypatch.setattr(
        database_restore,
        "start",
        lambda names: engine.step(
            "start", lambda s: s.update(running=sorted({*s["running"], *names}))
        ),
    )
    return engine


@pytest.fixture
def dumps(tmp_path: Path) -> Dumps:
    found = Dumps("shop", tmp_path / "app")
    found.folder.mkdir(parents=True, mode=0o700)
    return found


@pytest.mark.parametrize("broken", ["dump", "check"])
def test_a_dump_that_fails_leaves_nothing_behind(fake: Fake, dumps: Dumps, broken: str) -> None:
    fake.broken = {broken}
    with pytest.raises(RefusedError, match=f"could not be dumped: {broken} is broken"):
        dumps.make(fake, "abc")
    assert list(dumps.folder.iterdir()) == []


def test_a_dump_clears_what_a_killed_one_left(fake: Fake, dumps: Dumps) -> None:
    # The name of earlier versions, and the current one.
    for name in (".part", ".20261129T080000Z-before-abc.dump.part"):
        (dumps.folder / name).write_text("half")
    made = dumps.make(fake, "abc")
    again = dumps.make(fake, "abc")
    assert sorted(f.name for f in dumps.folder.iterdir()) == [made["name"], again["name"]]
    assert (dumps.folder / made["name"]).read_text() == "new"


def test_a_dump_asks_for_room_first(
    fake: Fake, dumps: Dumps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_cli, "free_bytes", lambda _folder: 50 * 2**20 + 999)
    with pytest.raises(RefusedError, match=r"may need 1.0 kB .* has 50.0 MB free"):
        dumps.make(fake, "abc")
    assert list(dumps.folder.iterdir()) == []


def test_a_failed_release_is_marked_in_the_names_of_its_dumps(fake: Fake, dumps: Dumps) -> None:
    bad, good = dumps.make(fake, "bad")["name"], dumps.make(fake, "good")["name"]
    assert dumps.mark("bad") == [bad]
    assert dumps.mark("bad") == []
    assert dumps.names() == sorted([bad.replace(".dump", "-failed.dump"), good])


def test_the_latest_dump_is_not_the_one_before_a_restore(fake: Fake, dumps: Dumps) -> None:
    with pytest.raises(RefusedError, match="has no dump"):
        dumps.find("latest")
    wanted = dumps.make(fake, "abc")["name"]
    dumps.make(fake, "restore")
    assert dumps.find("latest").name == wanted
    with pytest.raises(RefusedError, match=f"no such dump .*There are: .*{wanted}"):
        dumps.find("other.dump")


def test_a_dump_in_the_folder_of_another_app_is_refused(dumps: Dumps, tmp_path: Path) -> None:
    other = tmp_path / "apps/blog/dumps/x.dump"
    other.parent.mkdir(parents=True)
    other.write_text("blog")
    with pytest.raises(RefusedError, match="is a dump of blog, not of shop"):
        dumps.find(str(other))


# -- restores -------------------------------------------------------------------------------------


def look(engine: Fake) -> dict[str, Any]:
    """Return the engine's state, with the times removed from the names."""
    state = engine.read()
    names = {n: n.rpartition("_")[0] if "_" in n else n for n in state["databases"]}
    return {
        "databases": {names[n]: content for n, content in state["databases"].items()},
        "limit": state["limits"]["shop"],
        "running": state["running"],
    }


RUNS = {"limit": 20, "running": ["web", "worker"]}
UNTOUCHED = {"databases": {"shop": "new"}, **RUNS}
RESTORED = {"databases": {"shop": "old", "shop_before": "new"}, **RUNS}
RETURNED = {"databases": {"shop": "new", "shop_after": "old"}, **RUNS}


@pytest.fixture
def restore(fake: Fake, dumps: Dumps, tmp_path: Path) -> Restore:
    (dumps.folder / "20261101T080000Z-before-abc.dump").write_text("old")
    return Restore("shop", tmp_path / "app", fake, dumps)


def test_a_restore_keeps_what_it_replaces(fake: Fake, restore: Restore) -> None:
    prepared = restore.prepare("latest")
    assert prepared["tables"] == [{"table": "message", "now": 1, "dump": 1}]
    assert look(fake)["databases"] == {"shop": "new", "shop_restore": "old"}
    found = restore.swap(undumped=False)
    assert look(fake) == RESTORED
    assert (restore.dumps.folder / found["dump"]["name"]).read_text() == "new"
    assert fake.read()["limits"][found["kept"]] == 0
    # The replaced database can be restored by its name.
    restore.file.unlink()
    restore.prepare(found["kept"])
    restore.swap(undumped=False)
    assert sorted(look(fake)["databases"].values()) == ["new", "old"]
    assert look(fake)["databases"]["shop"] == "new"


def test_a_restore_that_is_not_wanted_leaves_no_trace(fake: Fake, restore: Restore) -> None:
    restore.prepare("latest")
    restore.abandon()
    assert look(fake) == UNTOUCHED
    assert not restore.file.exists()


@pytest.mark.parametrize("broken", ["create", "restore", "check"])
def test_a_dump_that_cannot_be_restored_changes_nothing(
    fake: Fake, restore: Restore, broken: str
) -> None:
    fake.broken = {broken}
    with pytest.raises(RefusedError, match="is broken"):
        restore.prepare("latest")
    assert look(fake) == UNTOUCHED
    assert not restore.file.exists()


@pytest.mark.parametrize("broken", ["stop", "dump", "rename"])
def test_an_error_before_the_swap_starts_the_app_again(
    fake: Fake, restore: Restore, broken: str
) -> None:
    restore.prepare("latest")
    fake.broken = {broken}
    with pytest.raises(RefusedError, match="is broken"):
        restore.swap(undumped=False)
    assert look(fake) == UNTOUCHED
    assert not restore.file.exists()


def test_a_database_that_cannot_be_dumped_is_replaced_if_the_operator_says_so(
    fake: Fake, restore: Restore
) -> None:
    restore.prepare("latest")
    fake.broken = {"dump"}
    assert restore.swap(undumped=True)["dump"] == {}
    assert look(fake) == RESTORED


def test_a_restore_is_taken_back(fake: Fake, restore: Restore) -> None:
    restore.prepare("latest")
    restore.swap(undumped=False)
    restore.undo()
    assert look(fake) == RETURNED
    assert not restore.file.exists()


def test_a_release_command_that_still_runs_is_not_cut_off(
    fake: Fake, restore: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore.prepare("latest")
    monkeypatch.setattr(database_restore, "is_running", lambda name: name == "shop-init")
    with pytest.raises(RefusedError, match="still runs"):
        restore.swap(undumped=False)
    assert look(fake)["running"] == ["web", "worker"]


@pytest.mark.parametrize("what", ["restored", "returned"])
def test_a_restore_killed_anywhere_is_finished_or_taken_back(
    fake: Fake, restore: Restore, what: str
) -> None:
    first, outcomes = fake.file.read_text(), []
    for steps in range(60):
        fake.file.write_text(first)
        restore.file.unlink(missing_ok=True)
        for name in restore.dumps.names()[1:]:
            (restore.dumps.folder / name).unlink()
        if what == "returned":
            restore.prepare("latest")
            restore.swap(undumped=False)
        child = os.fork()
        if not child:
            fake.steps_left = steps
            if what == "restored":
                restore.prepare("latest")
                restore.swap(undumped=False)
            else:
                restore.undo()
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        left = restore.read()
        found = restore.recover()
        after = look(fake)
        whole = (UNTOUCHED, RESTORED) if what == "restored" else (RETURNED, RESTORED)
        assert after in whole, (steps, left, after)
        assert not restore.file.exists()
        assert bool(found["interrupted"]) == bool(left)
        if found["interrupted"] == "swapped":
            assert after == RESTORED
        outcomes.append(after)
        if not killed:
            break
    assert not killed
    assert len(outcomes) > 5
    assert whole[0] in outcomes
    assert outcomes[-1] == (RESTORED if what == "restored" else RETURNED)


@pytest.fixture
def module() -> Any:
    spec = importlib.util.spec_from_file_location("database", ROOT / "plugins/modules/database.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


class NoFiles:
    """An app without SQLite files in its volumes."""

    def sizes(self) -> dict[str, int]:
        return {}


def work(module: Any, engine: Fake, folder: Path, **options: Any) -> Any:
    """Return the module's work on the fake engine."""
    made = module.Work({"app": "shop", "dir": folder, "kind": "found", **options}, False)
    made.engine, made.files = engine, NoFiles()
    return made


def test_failed_releases_alone_leave_no_more_dumps_than_are_kept(
    fake: Fake, dumps: Dumps, tmp_path: Path, module: Any
) -> None:
    """Failing deploys do not reach the usual pruning."""
    good = "20200101T080000Z-before-good.dump"
    (dumps.folder / good).write_text("good")
    for n in range(8):
        name = f"20200102T08000{n}Z-before-bad{n}.dump"
        (dumps.folder / name).write_text("bad")
        options = {"kept": 5, "days": 7, "failed": [f"bad{n}"]}
        work(module, fake, tmp_path / "app", **options).pruned()
    assert dumps.names() == [
        good,
        *(f"20200102T08000{n}Z-before-bad{n}-failed.dump" for n in range(3, 8)),
    ]
    tasks = yaml.safe_load((ROOT / "roles/app/tasks/deploy/failed.yml").read_text())
    files = [(task.get("ansible.builtin.include_tasks") or {}).get("file") for task in tasks]
    assert "deploy/prune_dumps.yml" in files


def test_an_app_is_dumped_before_it_is_removed_or_stays(
    fake: Fake, dumps: Dumps, tmp_path: Path, module: Any
) -> None:
    remove = {"reason": "removal"}
    made = work(module, fake, tmp_path / "app", **remove).dumped()["dump"]["name"]
    assert made.endswith("-before-removal.dump") and dumps.names() == [made]
    fake.broken = {"dump"}
    with pytest.raises(RefusedError, match="Nothing was removed"):
        work(module, fake, tmp_path / "app", **remove).dumped()
    tasks = yaml.safe_load((ROOT / "roles/app/tasks/remove.yml").read_text())
    order = [task["name"] for task in tasks]
    dump = tasks[order.index("Dump the database before the removal")]
    assert dump["ansible.builtin.include_tasks"] == "deploy/dump.yml"
    assert dump["vars"] == {"app_dump_reason": "removal", "app_dump_kind": "found"}
    # All tasks before the dump only read.
    assert all(name.startswith("App | Look") for name in order[: tasks.index(dump)])


@pytest.mark.parametrize("steps", [0, 4, 7, 20])
def test_a_swap_that_was_killed_is_ended_by_the_run_that_began_it(
    fake: Fake, restore: Restore, tmp_path: Path, module: Any, steps: int
) -> None:
    """The kernel may have killed only the module, out of memory."""
    restore.prepare("latest")
    child = os.fork()
    if not child:
        fake.steps_left = steps
        restore.swap(undumped=False)
        os._exit(0)
    os.waitpid(child, 0)
    found = work(module, fake, tmp_path / "app").recovered()
    swapped = found["interrupted"] == "swapped"
    assert look(fake) == (RESTORED if swapped or steps == 20 else UNTOUCHED)
    assert not restore.file.exists()
    assert not found["page"]
    (tmp_path / "app/.restore.page").touch()
    # The state that a run leaves if it is killed between its last two steps.
    assert work(module, fake, tmp_path / "app").recovered()["page"]
    undo = (ROOT / "roles/app/tasks/restore/undo.yml").read_text()
    assert "{state: recovered," in undo and "recovered.interrupted == 'swapped'" in undo


def test_the_module_documents_its_states(module: Any) -> None:
    named = module.DOCUMENTATION.partition("choices: [")[2].partition("]")[0]
    states = {name for name in vars(module.Work) if name.endswith("ed")}
    assert {word.strip() for word in named.split(",")} == states


# -- SQLite ---------------------------------------------------------------------------------------


class Volume:
    """A volume and the program that works on it, run without a container."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = SQLITE.replace("/data", str(folder)).replace(
            "/dump.db", str(folder / "given")
        )

    def run(self, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-I", "-c", self.program, *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=False)

    def good(self, *arguments: str, given: bytes = b"") -> bytes:
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fill(self, name: str, rows: int) -> sqlite3.Connection:
        base = sqlite3.connect(self.folder / name)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("CREATE TABLE note (text)")
        base.executemany("INSERT INTO note VALUES (?)", [("x" * 500,)] * rows)
        base.commit()
        return base


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def test_sqlite_is_dumped_with_what_stands_in_its_log(volume: Volume) -> None:
    base = volume.fill("app.db", 40)
    (volume.folder / ".dump").write_text("left by a killed run")
    (volume.folder / "given").write_bytes(volume.good("dump"))
    base.close()
    assert not (volume.folder / ".dump").exists()
    volume.good("check")
    whole = (volume.folder / "given").read_bytes()
    for broken in (whole[:-4096], whole[: len(whole) // 2], b"not a database", b""):
        (volume.folder / "given").write_bytes(broken)
        assert volume.run("check").returncode, len(broken)
    (volume.folder / "given").write_bytes(whole[:4096] + b"\xff" * 3000 + whole[7096:])
    assert volume.run("check").returncode


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_an_app_that_keeps_its_database_locked_holds_up_no_dump(volume: Volume, mode: str) -> None:
    volume.fill("app.db", 4).close()
    app = sqlite3.connect(volume.folder / "app.db", isolation_level=None)
    for step in (f"PRAGMA journal_mode = {mode}", "PRAGMA locking_mode = EXCLUSIVE"):
        app.execute(step)
    app.execute("BEGIN EXCLUSIVE")
    app.execute("INSERT INTO note VALUES (1)")
    assert "timeout=60" in volume.program
    volume.program = volume.program.replace("timeout=60", "timeout=0.2")
    start = time.monotonic()
    done = volume.run("dump")
    assert done.returncode and b"keeps its database locked" in done.stderr
    assert time.monotonic() - start < 5
    app.execute("ROLLBACK")
    app.close()
    volume.good("dump")


def test_a_dump_of_postgres_waits_for_no_lock_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(postgres_database, "docker", lambda *words, **_: said.extend(words))
    postgres_database.Postgres("shop").dump(tmp_path / "dump")
    assert "--lock-wait-timeout=60s" in said[said.index("pg_dump") :]


def test_sqlite_is_swapped_and_swapped_back(volume: Volume) -> None:
    old = volume.fill("elsewhere", 3)
    old.close()
    given = (volume.folder / "elsewhere").read_bytes()
    base = volume.fill("app.db", 40)
    assert volume.run("restore", "app.db.restore_1", given=given[:-100]).returncode
    volume.good("drop", "app.db.restore_1")
    volume.good("restore", "app.db.restore_1", given=given)
    assert json.loads(volume.good("rows", "app.db.restore_1")) == {"note": 3}
    base.close()
    volume.good("rename", "app.db.before_1", "app.db.restore_1")
    assert json.loads(volume.good("rows", "app.db")) == {"note": 3}
    assert json.loads(volume.good("look"))["others"].keys() == {"app.db.before_1"}
    volume.good("rename", "app.db.after_1", "app.db.before_1")
    assert json.loads(volume.good("rows", "app.db")) == {"note": 40}


def test_sqlite_keeps_the_rows_of_a_log_that_was_left(volume: Volume) -> None:
    code = (
        "import os, sqlite3, sys; b = sqlite3.connect(sys.argv[1]);"
        "b.execute('PRAGMA journal_mode = WAL'); b.execute('CREATE TABLE note (text)');"
        "b.execute('INSERT INTO note VALUES (1)'); b.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, volume.folder / "app.db"], check=True)
    assert (volume.folder / "app.db-wal").stat().st_size > 0
    volume.fill("app.db.restore_1", 3).close()
    volume.good("rename", "app.db.before_1", "app.db.restore_1")
    assert json.loads(volume.good("rows", "app.db.before_1")) == {"note": 1}
    assert json.loads(volume.good("rows", "app.db")) == {"note": 3}
    # After an interruption between its two steps, the file has two names.
    os.link(volume.folder / "app.db", volume.folder / "app.db.before_2")
    volume.good("forget", "app.db.before_2")
    volume.good("forget", "app.db.before_1")
    assert json.loads(volume.good("look"))["others"].keys() == {"app.db.before_1"}


def test_sqlite_does_not_follow_links_that_an_app_has_made(volume: Volume) -> None:
    secret = volume.folder / "secret"
    secret.write_text("hunter2")
    (volume.folder / ".dump").symlink_to(secret)
    volume.fill("app.db", 1).close()
    volume.good("dump")
    assert secret.read_text() == "hunter2"
    (volume.folder / "app.db.before_9").symlink_to(secret)
    assert json.loads(volume.good("look"))["others"] == {}


# -- memory ---------------------------------------------------------------------------------------


def shops(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"shop{n}", **more} for n in range(count)]


def test_databases_share_half_of_the_memory() -> None:
    for count in range(1, 33):
        share = postgres_memory(32000, shops(count))
        assert count * share <= 32000 // 2, count
    # The share of one or two databases is unchanged.
    assert postgres_memory(8000, shops(1)) == postgres_memory(8000, shops(2)) == 2000
    assert postgres_memory(900, shops(1)) == 256
    assert postgres_memory(100000, shops(1)) == 8192
    # Negative control: a quarter for each of five would exceed the memory.
    assert 5 * (8000 // 4) > 8000


def test_most_new_apps_leave_the_other_databases_running() -> None:
    shares = [postgres_memory(16000, shops(count)) for count in range(1, 17)]
    assert len(set(shares)) == 4
    others = [*shops(2), *shops(5, database="none"), *shops(5, state="absent")]
    assert postgres_memory(16000, others) == shares[1]


def test_preflight_warns_of_limits_beyond_the_memory() -> None:
    apps = [
        {"name": "shop", "memory_mb": "300", "workers": [{"name": "mail"}]},
        {"name": "blog", "database": "sqlite"},
        {"name": "gone", "state": "absent"},
    ]
    found = limits(apps, 512, 256)
    assert found == {"shop": 856, "blog": 512}
    assert check_memory("web1", 1368, found) == []
    (warning,) = check_memory("web1", 1367, found)
    assert warning.warning
    assert "less than the 1368 MB" in str(warning) and "shop 856, blog 512" in str(warning)


def test_the_folder_is_for_root_alone(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    dumps = Dumps("shop", tmp_path / "fresh")
    before = os.umask(0o077)
    try:
        made = dumps.make(fake, "abc")
    finally:
        os.umask(before)
    assert dumps.folder.stat().st_mode & 0o777 == 0o700
    assert (dumps.folder / made["name"]).stat().st_mode & 0o777 == 0o600
