"""SQLite files that an app keeps in volumes of its own choice, beside its database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.docker_cli import RefusedError, docker, docker_root, need_room, run

# Runs in a container with only the app's volumes and rights, like the program of sqlite_database.
# Files are named after their place below the engine's folder of volumes, so that unpacking the
# archive there restores them.
PROGRAM = r"""
import json, os, sqlite3, sys, tarfile
what, known = sys.argv[1], set(sys.argv[2:])
COPY = ".flask-vps-dump"

def is_wanted(path, name):
    if name.endswith(COPY) or os.path.islink(path) or not os.path.isfile(path):
        return False
    # What the dump of the app's own database has, and what restores have replaced.
    if any(path == k or path.startswith(k + ".") for k in known):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False

def found():
    for folder, folders, names in os.walk("/volumes"):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if is_wanted(path, name):
                yield path

def give_up(status, *_):
    if status in (5, 6):
        sys.exit("the app keeps an SQLite file locked")

def sizes(path):
    ends = ("", "-wal")
    return sum(os.path.getsize(path + e) for e in ends if os.path.isfile(path + e))

if what == "look":
    print(json.dumps({path: sizes(path) for path in found()}))
else:
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        for path in found():
            copy = path + COPY
            for old in (copy, copy + "-journal"):
                if os.path.lexists(old):
                    os.unlink(old)
            source, target = sqlite3.connect(path, timeout=60), sqlite3.connect(copy)
            try:
                source.backup(target, progress=give_up)
            except sqlite3.Error as error:
                sys.exit(f"{path.removeprefix('/volumes/')}: {error}")
            finally:
                target.close()
                source.close()
            before = os.stat(path)
            os.chmod(copy, before.st_mode & 0o777)
            volume, _, name = path.removeprefix("/volumes/").partition("/")
            tar.add(copy, f"{volume}/_data/{name}")
            os.unlink(copy)
"""


class SqliteFiles:
    """The SQLite files in an app's volumes, without the one of ``database: sqlite``."""

    def __init__(self, app: str, images: Sequence[str], kind: str) -> None:
        self.app, self.images = app, [image for image in images if image]
        self.known = [f"/volumes/{app}.data/app.db"] if kind == "sqlite" else []

    def volumes(self) -> list[str]:
        """List the app's volumes; no other app has its name before a dot."""
        listed = docker("volume", "ls", "--quiet", "--filter", f"name={self.app}.")
        return sorted(name for name in listed.split() if name.startswith(f"{self.app}."))

    def _python(self, *arguments: str, **files: Any) -> str:
        volumes = self.volumes()
        image = next(
            (i for i in self.images if run(["docker", "image", "inspect", i]).returncode == 0), ""
        )
        if not image:
            raise RefusedError(
                f"none of these images is on the server: {', '.join(self.images)}. Deploy first"
            )
        place = docker("volume", "inspect", "-f", "{{.Mountpoint}}", volumes[0]).strip()
        owner = Path(place).stat()
        return docker(
            *("run", "--rm", "--network=none", "--log-driver=none", "--read-only", "--init"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--no-healthcheck"),
            *("--tmpfs=/tmp", f"--user={owner.st_uid}:{owner.st_gid}"),
            *(f"--volume={volume}:/volumes/{volume}" for volume in volumes),
            *("--entrypoint=python3", image, "-I", "-c", PROGRAM, *arguments, *self.known),
            **files,
        )

    def sizes(self) -> dict[str, int]:
        """Measure the files, in bytes, by their path in the container that reads them."""
        return json.loads(self._python("look")) if self.volumes() else {}

    def dump(self, target: Path, sizes: dict[str, int]) -> None:
        """Write consistent copies of all files into an archive."""
        need_room(docker_root(), max(sizes.values()), f"A copy of {self.app}'s SQLite file")
        with target.open("xb") as file:
            self._python("dump", stdout=file)
