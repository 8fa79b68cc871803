"""The database of an app in a file on a volume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.docker_cli import RefusedError, docker, docker_root, need_room, run
from ansible.module_utils.postgres_archive import Contents

SQLITE_FILE = "app.db"

# Runs in a container with only the app's volume and rights, because the volume may contain links,
# or files that attack the program that opens them.
SQLITE = r"""
import json, os, shutil, sqlite3, sys
what, *names = sys.argv[1:]
path = lambda name: os.path.join("/data", name)
live = path("app.db")

def regular(name):
    return os.path.isfile(name) and not os.path.islink(name)

def check(file):
    with open(file, "rb") as head:
        first = head.read(100)
    if first[:16] != b"SQLite format 3\0":
        sys.exit("is not an SQLite database")
    page = int.from_bytes(first[16:18], "big")
    size = (65536 if page == 1 else page) * int.from_bytes(first[28:32], "big")
    if size > os.path.getsize(file):
        sys.exit(f"is not a whole dump: it has {os.path.getsize(file)} of {size} bytes")
    with sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True) as base:
        said = base.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if said != "ok":
        sys.exit("is not a whole dump: the integrity check failed")

def rows(file, mode):
    with sqlite3.connect(f"file:{file}?{mode}", uri=True) as base:
        tables = base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        named = sorted(n for (n,) in tables if not n.startswith("sqlite_"))
        quoted = [(n, '"' + n.replace('"', '""') + '"') for n in named]
        return {n: base.execute(f"SELECT count(*) FROM {q}").fetchone()[0] for n, q in quoted}

def give_up(status, *_):
    # SQLITE_BUSY and SQLITE_LOCKED after the timeout: the lock may never be released.
    if status in (5, 6):
        sys.exit("the app keeps its database locked")

def sync(name):
    handle = os.open(name, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)

if what == "look":
    found = [n for n in os.listdir("/data") if n.startswith("app.db.") and regular(path(n))]
    sizes = {n: os.path.getsize(path(n)) for n in sorted(found)}
    size = sum(os.path.getsize(live + s) for s in ("", "-wal") if regular(live + s))
    print(json.dumps({"there": regular(live), "size": size, "others": sizes}))
elif what == "dump":
    copy = path(".dump")
    for old in (copy, copy + "-journal"):
        if os.path.lexists(old):
            os.unlink(old)
    source, target = sqlite3.connect(live, timeout=60), sqlite3.connect(copy)
    source.backup(target, progress=give_up)
    target.close()
    source.close()
    with open(copy, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
    sys.stdout.flush()
    os.unlink(copy)
elif what == "check":
    check("/dump.db")
elif what == "rows":
    quiet = names[0] != "app.db"
    print(json.dumps(rows(path(names[0]), "mode=ro&immutable=1" if quiet else "mode=rw")))
elif what == "restore":
    copy = path(names[0])
    with open(copy, "xb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    check(copy)
    if regular(live):
        os.chmod(copy, os.stat(live).st_mode & 0o777)
elif what == "drop":
    for end in ("", "-wal", "-shm", "-journal"):
        if os.path.lexists(path(names[0]) + end):
            os.unlink(path(names[0]) + end)
elif what == "forget":
    # A rename that was interrupted between its two steps left a second name of the same file.
    if regular(live) and regular(path(names[0])) and os.path.samefile(live, path(names[0])):
        os.unlink(path(names[0]))
elif what == "rename":
    away, back = map(path, names)
    if os.path.exists(live):
        # Take an exclusive lock and merge the write-ahead log first: a leftover log would be
        # applied to the other file.
        base = sqlite3.connect(live, timeout=30, isolation_level=None)
        for step in ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT"):
            base.execute(step)
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.link(live, away)
        os.rename(back, live)
        base.close()
    else:
        os.rename(back, live)
    for end in ("-wal", "-shm", "-journal"):
        if os.path.lexists(live + end):
            os.unlink(live + end)
    sync("/data")
"""


class Sqlite:
    """The database of an app in a file on its own volume."""

    kind = "sqlite"

    def __init__(self, app: str, images: Sequence[str]) -> None:
        self.app, self.images, self.volume = app, list(images), f"{app}.data"

    def check_runs(self, start: bool = True) -> None:
        """Refuse if there is no volume."""
        if run(["docker", "volume", "inspect", self.volume]).returncode:
            raise RefusedError(f"{self.app} has no volume {self.volume}. Deploy the app first")

    def is_empty(self) -> bool:
        """Tell whether the database has no content."""
        return not self._look()["there"]

    def _python(self, *arguments: str, extra: Sequence[str] = (), **files: Any) -> str:
        image = next(
            (i for i in self.images if run(["docker", "image", "inspect", i]).returncode == 0), ""
        )
        if not image:
            raise RefusedError(
                f"none of these images is on the server: {', '.join(self.images)}. Deploy first"
            )
        where = Path(
            docker("volume", "inspect", "-f", "{{.Mountpoint}}", self.volume).strip()
        ).stat()
        # Without a log driver, because it would keep a copy of each dump.
        return docker(
            *("run", "--rm", "--interactive", "--network=none", "--log-driver=none", "--read-only"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--no-healthcheck", "--init"),
            "--tmpfs=/tmp",
            *(extra or [f"--user={where.st_uid}:{where.st_gid}", f"--volume={self.volume}:/data"]),
            *("--entrypoint=python3", image, "-I", "-c", SQLITE, *arguments),
            **files,
        )

    def _look(self) -> dict[str, Any]:
        return json.loads(self._python("look"))

    def exists(self, name: str) -> bool:
        """Tell whether a database exists."""
        return name == SQLITE_FILE or name in self._look()["others"]

    def size(self) -> int:
        """Measure the database, in bytes."""
        return int(self._look()["size"])

    def names(self) -> list[tuple[str, int]]:
        """List the databases beside the app's, with their sizes in bytes."""
        return list(self._look()["others"].items())

    def dump(self, target: Path) -> None:
        """Write a dump."""
        need_room(docker_root(), self.size(), f"A copy of {self.app}'s database")
        with target.open("xb") as file:
            self._python("dump", stdout=file)

    def check(self, file: Path) -> Contents:
        """Read a dump from its start to its end, or refuse it."""
        # As root, who alone may read the dump, and with nothing else in reach.
        mount = ["--user=0:0", f"--mount=type=bind,source={file},target=/dump.db,readonly"]
        self._python("check", extra=mount)
        return Contents(self.app)

    def refusal(self, _contents: Contents) -> str:
        """Return nothing: an SQLite file names neither its app nor its version."""
        return ""

    def rows(self, database: str) -> dict[str, int | None]:
        """Count the rows of each table."""
        return json.loads(self._python("rows", SQLITE_FILE if database == self.app else database))

    def restore(self, file: Path, _contents: Contents, name: str) -> list[str]:
        """Restore a dump into a new file."""
        with file.open("rb") as source:
            self._python("restore", name, stdin=source)
        now, then = self.rows(self.app), self.rows(name)
        if now and not set(now) & set(then):
            raise RefusedError(
                f"has none of the tables of {self.app}, so it belongs to another app"
            )
        return []

    def forget(self, name: str) -> None:
        """Remove the second name that an interrupted `rename` left."""
        self._python("forget", name)

    def drop(self, name: str) -> None:
        """Remove a copy."""
        self._python("drop", name)

    def connections(self) -> int:
        """Return -1, as there is no limit."""
        return -1

    def close(self) -> None:
        """Do nothing: the app, which had it open, is stopped."""

    def limit(self, name: str, connections: int) -> None:
        """Do nothing: files have no connections."""

    def rename(self, away: str, back: str) -> None:
        """Rename the app's database to `away`, and `back` to the app's name in one step."""
        self._python("rename", away, back)

    def replaced(self, stamp: str) -> str:
        """Return the name for a replaced database."""
        return f"{SQLITE_FILE}.before_{stamp}"

    def copy(self, stamp: str) -> str:
        """Return the name for a copy that is not in use yet."""
        return f"{SQLITE_FILE}.restore_{stamp}"

    def undone(self, stamp: str) -> str:
        """Return the name for a copy that was in use and undone."""
        return f"{SQLITE_FILE}.after_{stamp}"

    def how_to_drop(self, name: str) -> str:
        """Return the command that removes a replaced database."""
        return f"rm \"$(docker volume inspect -f '{{{{.Mountpoint}}}}' {self.volume})/{name}\""
