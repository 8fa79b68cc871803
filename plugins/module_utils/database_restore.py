"""Restore an app's database, and finish or undo an interrupted restore."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.database_engines import Engine
from ansible.module_utils.docker_cli import (
    RefusedError,
    docker,
    docker_root,
    inspect,
    is_running,
    need_room,
    plain_errors,
    run,
)
from ansible.module_utils.dump_folder import Dumps, sync
from ansible.module_utils.dumps import REPLACED, STAMP, age
from ansible.module_utils.names import Names


class Restore:
    """
    One restore, with its step recorded in a file on the server.

    The app is stopped during `swap`, which is one call on the server, so that it goes on when the
    controller is killed.
    """

    def __init__(self, app: str, app_dir: Path, engine: Engine, dumps: Dumps) -> None:
        self.app, self.engine, self.dumps = app, engine, dumps
        self.file = app_dir / "restore.json"

    @staticmethod
    def read_file(app_dir: Path) -> dict[str, Any]:
        """Read the record of an app's restore; empty if none is in progress."""
        try:
            return json.loads((app_dir / "restore.json").read_text())
        except FileNotFoundError:
            return {}

    def read(self) -> dict[str, Any]:
        """Read the record; empty if no restore is in progress."""
        return self.read_file(self.file.parent)

    def write(self, **changed: Any) -> dict[str, Any]:
        """Change the record, and flush it to the disk."""
        record = {**self.read(), **changed}
        fresh = self.file.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(record, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.file)
        sync(self.file.parent)
        return record

    def examine(self, wanted: str, start: bool = True) -> dict[str, Any]:
        """Refuse a dump that cannot be restored; only the database may be started for that."""
        now = datetime.now(UTC)
        self.engine.check_runs(start)
        if replaced := REPLACED.fullmatch(wanted):
            sizes = dict(self.engine.names())
            if wanted not in sizes:
                there = ", ".join(filter(REPLACED.fullmatch, sizes)) or "none"
                raise RefusedError(f"dump={wanted}: there is no such database. There are: {there}")
            taken = datetime.strptime(replaced[2].upper(), STAMP).replace(tzinfo=UTC)
            return {
                "name": wanted,
                "taken": taken.strftime("%Y-%m-%d %H:%M:%S UTC"),
                "age": age(taken, now),
                "size": sizes[wanted],
                "before": "restore",
                "failed": False,
                "database": True,
            }
        file = self.dumps.find(wanted)
        try:
            contents = self.engine.check(file)
        except RefusedError as error:
            raise RefusedError(f"dump={wanted}: {file.name} {error}") from error
        if refusal := self.engine.refusal(contents):
            raise RefusedError(f"dump={wanted}: {file.name} {refusal}")
        name = file.name if file.parent == self.dumps.folder else str(file)
        return {**self.dumps.describe(name, now), "database": False}

    def prepare(self, wanted: str) -> dict[str, Any]:
        """Restore a dump beside the database in use."""
        dump = self.examine(wanted)
        stamp = datetime.now(UTC).strftime(STAMP).lower()
        copy = dump["name"] if dump["database"] else self.engine.copy(stamp)
        self.write(
            **{"stage": "prepared", "kind": self.engine.kind, "dump": dump["name"], "copy": copy},
            **{"made": not dump["database"], "kept": self.engine.replaced(stamp), "stamp": stamp},
        )
        said: list[str] = []
        try:
            if not dump["database"]:
                file = self.dumps.find(wanted)
                size = self.engine.size()
                need = max(size, 3 * dump["size"]) * 3 // 2 + min(size, 2 * dump["size"])
                need_room(docker_root(), need, f"Restoring {file.name} beside the database in use")
                try:
                    said = self.engine.restore(file, self.engine.check(file), copy)
                except RefusedError as error:
                    raise RefusedError(f"{file.name} could not be restored: {error}") from error
            now, then = self._rows(self.app), self._rows(copy)
        except BaseException:
            self.abandon()
            raise
        tables = [
            {"table": t, "now": now.get(t, "-"), "dump": then.get(t, "-")}
            for t in sorted({*now, *then})
        ]
        return {"dump": dump, "tables": tables, "lines": [*said, *table_lines(tables)]}

    def _rows(self, database: str) -> dict[str, Any]:
        # A broken database is a reason for a restore, not an obstacle.
        with suppress(RefusedError):
            return {t: "?" if n is None else n for t, n in self.engine.rows(database).items()}
        return {}

    def abandon(self) -> None:
        """Remove the copy of a restore that did not happen."""
        record = self.read()
        if record.get("made") and record["copy"] == self.engine.copy(record["stamp"]):
            self.engine.drop(record["copy"])
        self.file.unlink(missing_ok=True)

    def swap(self, undumped: bool) -> dict[str, Any]:
        """Stop the app, dump its database, give the copy its name, start the app."""
        record = self.read()
        if record.get("stage") != "prepared":
            raise RefusedError("there is no restored copy to use")
        if is_running(Names(self.app).release_command):
            raise RefusedError(
                f"a release command of {self.app} still runs; try again when it has ended"
            )
        running = containers(self.app)
        # Jobs are not started again.
        again = [c["name"] for c in running if not c["job"]]
        limit = self.engine.connections()
        record = self.write(stage="stopped", containers=again, limit=limit)
        dump: dict[str, Any] = {}
        swapped = False
        try:
            stop([c["name"] for c in running])
            self.engine.close()
            try:
                dump = self.dumps.make(self.engine, "restore")
            except RefusedError as error:
                if not undumped:
                    hint = "Make room, or add -e undumped=true: the replaced database is kept"
                    raise RefusedError(f"{error}. {hint}") from error
            self.engine.rename(record["kept"], record["copy"])
            swapped = True
            self.engine.limit(self.app, record["limit"])
            self.write(stage="swapped")
            start(again)
        except BaseException:
            if swapped:
                self.undo()
            else:
                self.recover()
            raise
        return {"kept": record["kept"], "dump": dump, "started": again}

    def undo(self) -> dict[str, Any]:
        """Undo a swap. The database that was in use meanwhile is kept, too."""
        record = self.write(stage="returning")
        stop([c["name"] for c in containers(self.app)])
        self.engine.close()
        kept = self.engine.undone(record["stamp"])
        self.engine.rename(kept, record["kept"])
        self.engine.limit(self.app, record["limit"])
        start(record["containers"])
        self.file.unlink(missing_ok=True)
        return {"kept": kept, "started": record["containers"]}

    def recover(self) -> dict[str, Any]:
        """Finish or undo an interrupted restore."""
        record = self.read()
        stage = record.get("stage", "")
        if not stage:
            return {"interrupted": "", "lines": [], "started": []}
        self.engine.check_runs()
        if stage == "prepared":
            self.abandon()
            text = "An earlier restore ended before it changed anything. Its copy was removed."
            return {"interrupted": stage, "lines": [text], "started": []}
        if stage == "returning":
            if self.engine.exists(record["kept"]):
                self.undo()
            else:
                self.engine.limit(self.app, record["limit"])
                start(record["containers"])
                self.file.unlink()
            text = "Undoing an earlier restore was interrupted. It is undone now."
            return {"interrupted": stage, "lines": [text], "started": record["containers"]}
        # The copy keeps its name until it gets the app's, in one step.
        swapped = not self.engine.exists(record["copy"])
        self.engine.limit(self.app, record["limit"])
        if swapped:
            text = (
                f"An earlier restore of {record['dump']} was interrupted, and is complete now. "
                f"The replaced database is kept as {record['kept']}."
            )
        else:
            self.engine.forget(record["kept"])
            text = "An earlier restore was interrupted while the app was stopped. It is undone now."
        start(record["containers"])
        if swapped:
            self.file.unlink(missing_ok=True)
        else:
            self.abandon()
        stage = "swapped" if swapped else "stopped"
        return {"interrupted": stage, "lines": [text], "started": record["containers"]}


def table_lines(tables: Sequence[dict[str, Any]]) -> list[str]:
    """Format counts of rows as lines for the operator."""
    rows = [("TABLE", "ROWS NOW", "ROWS IN THE DUMP")]
    rows += [(t["table"], str(t["now"]), str(t["dump"])) for t in tables]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{table.ljust(widths[0])}  {now.rjust(widths[1])}  {then.rjust(widths[2])}"
        for table, now, then in rows
    ]


def containers(app: str) -> list[dict[str, Any]]:
    """List the running containers of an app's releases, those that take requests first."""
    names = docker("ps", "--quiet", "--filter", f"label=flask-vps.app={app}").split()
    if not names:
        return []
    found = json.loads(run(["docker", "inspect", *names]).stdout or "[]")
    listed = [
        {
            "name": container["Name"].lstrip("/"),
            "job": container["Config"]["Labels"].get("com.docker.compose.oneoff") == "True",
            "service": container["Config"]["Labels"].get("com.docker.compose.service", ""),
        }
        for container in found
        if container["Config"]["Labels"].get("flask-vps.release")
    ]
    return sorted(listed, key=lambda c: (c["service"] not in ("relay", "web"), c["name"]))


def stop(names: Sequence[str]) -> None:
    """Stop containers, each within its own stop timeout."""
    if names:
        # A job may just be removing its own container.
        done = run(["docker", "stop", *names])
        left = [name for name in names if is_running(name)]
        if left:
            raise RefusedError(f"{', '.join(left)} did not stop: {plain_errors(done.stderr)}")


def start(names: Sequence[str]) -> None:
    """Start containers again that still exist."""
    there = [name for name in names if inspect(name)]
    if there:
        docker("start", *there)


@contextmanager
def alone(app_dir: Path) -> Iterator[None]:
    """Wait for a run that outlived its controller; the kernel releases the lock at exit."""
    with (app_dir / ".restore.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
