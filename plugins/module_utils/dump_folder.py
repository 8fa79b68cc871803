"""The folder of an app's dumps."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.database_engines import Engine
from ansible.module_utils.docker_cli import RefusedError, need_room
from ansible.module_utils.dumps import FILES_SUFFIX, STAMP, age, parse_name, stale_dumps
from ansible.module_utils.sqlite_files import SqliteFiles


class Dumps:
    """The dumps of an app, in a folder that only root may enter."""

    def __init__(self, app: str, app_dir: Path) -> None:
        self.app, self.folder = app, app_dir / "dumps"

    def names(self) -> list[str]:
        """List the dumps, the oldest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else []
        return sorted(file.name for file in found if file.suffix == ".dump" and file.is_file())

    def archives(self) -> list[str]:
        """List the dumps of SQLite files in volumes, the oldest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else []
        return sorted(f.name for f in found if f.name.endswith(FILES_SUFFIX) and f.is_file())

    def describe(self, name: str, now: datetime) -> dict[str, Any]:
        """Describe a dump without reading it."""
        file = self.folder / name if "/" not in name else Path(name)
        parsed, status = parse_name(file.name), file.stat()
        taken = parsed.taken if parsed else datetime.fromtimestamp(status.st_mtime, UTC)
        return {
            "name": name,
            "taken": taken.strftime("%Y-%m-%d %H:%M:%S UTC"),
            "age": age(taken, now),
            "size": status.st_size,
            "before": parsed.reason if parsed else "",
            "failed": parsed.failed if parsed else False,
        }

    def find(self, wanted: str) -> Path:
        """Find the dump that the operator chose; refuse if there is none."""
        if wanted == "latest":
            # A dump from before a restore has the data that the restore was meant to replace.
            own = [n for n in self.names() if (d := parse_name(n)) and d.reason != "restore"]
            if not own:
                raise RefusedError(f"dump=latest: {self.app} has no dump in {self.folder}")
            return self.folder / own[-1]
        file = Path(wanted) if wanted.startswith("/") else self.folder / wanted
        if file.name.endswith(FILES_SUFFIX) and file.is_file():
            raise RefusedError(
                f"dump={wanted}: holds SQLite files of volumes, which are restored by hand: stop "
                f"the app, then unpack it on the server, as docs/data.md describes"
            )
        if not file.is_file():
            names = self.names()
            there = f"There are: {', '.join(reversed(names))}" if names else "There is none"
            raise RefusedError(f"dump={wanted}: there is no such dump in {self.folder}. {there}")
        other = re.match(r".*/apps/([^/]+)/dumps/[^/]+$", str(file.resolve()))
        if other and other[1] != self.app:
            raise RefusedError(f"dump={wanted}: is a dump of {other[1]}, not of {self.app}")
        return file

    def clean(self) -> list[str]:
        """Remove partial dumps."""
        left = [f for f in self.folder.glob(".*part") if f.is_file() or f.is_symlink()]
        for file in left:
            file.unlink()
        return [file.name for file in left]

    def make(self, engine: Engine, reason: str) -> dict[str, Any]:
        """Make a dump, check it, and give it its name; a failed dump is removed."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.clean()
        need_room(self.folder, self._estimate(engine), f"A dump of {self.app}'s database")
        name, now = self._free_name(reason, ".dump")
        part = self.folder / f".{name}.part"
        try:
            engine.dump(part)
            engine.check(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.rename(self.folder / name)
        except (RefusedError, OSError) as error:
            raise RefusedError(
                f"The database of {self.app} could not be dumped: {error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        sync(self.folder)
        return self.describe(name, now)

    def make_archive(self, files: SqliteFiles, reason: str) -> dict[str, Any]:
        """Dump the SQLite files in an app's volumes; empty if there are none."""
        sizes = files.sizes()
        if not sizes:
            return {}
        self.folder.mkdir(mode=0o700, exist_ok=True)
        need_room(self.folder, sum(sizes.values()), f"A dump of {self.app}'s SQLite files")
        name, now = self._free_name(reason, FILES_SUFFIX)
        part = self.folder / f".{name}.part"
        try:
            files.dump(part, sizes)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.rename(self.folder / name)
        except (RefusedError, OSError) as error:
            raise RefusedError(
                f"The SQLite files of {self.app} could not be dumped: {error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        sync(self.folder)
        return self.describe(name, now)

    def _free_name(self, reason: str, suffix: str) -> tuple[str, datetime]:
        """Choose a name that no dump has yet, and return the time in it."""
        while True:
            now = datetime.now(UTC)
            name = f"{now.strftime(STAMP)}-before-{reason}{suffix}"
            if not (self.folder / name).exists():
                return name, now
            time.sleep(0.2)

    def _estimate(self, engine: Engine) -> int:
        """Estimate the size of the next dump, in bytes: at most twice the last one's."""
        size, last = engine.size(), self.names()[-1:]
        return min([size, *(2 * (self.folder / name).stat().st_size for name in last)])

    def mark(self, reason: str) -> list[str]:
        """Mark the dumps from before a release as those of a failed one, in their names."""
        marked = []
        for name in [*self.names(), *self.archives()]:
            dump = parse_name(name)
            if dump and dump.sort == "release" and dump.reason == reason:
                suffix = FILES_SUFFIX if name.endswith(FILES_SUFFIX) else ".dump"
                failed = f"{name.removesuffix(suffix)}-failed{suffix}"
                (self.folder / name).rename(self.folder / failed)
                marked.append(name)
        return marked

    def prune(self, kept: int, days: int) -> list[str]:
        """Remove old dumps."""
        now = datetime.now(UTC)
        stale = stale_dumps(self.names(), kept, days, now)
        stale += stale_dumps(self.archives(), kept, days, now)
        for name in stale:
            (self.folder / name).unlink()
        return stale


def sync(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
