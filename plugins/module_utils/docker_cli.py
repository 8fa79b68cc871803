"""Docker's command line, which every version of the engine has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.dumps import show_size
from ansible.module_utils.paths import SERVER_DIR

# Kept free for other programs, in bytes.
RESERVE = 50 * 2**20


class RefusedError(Exception):
    """An error with a message for the operator, instead of a traceback."""


def plain_errors(text: str) -> str:
    """Reduce the output of a Postgres program to its errors, without data from rows."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    hidden = r"(CONTEXT|DETAIL|STATEMENT|QUERY|LINE \d+|Command was|pg_restore: (from|while)).*"
    errors = [line for line in lines if not re.match(hidden, line)]
    first = [line for line in errors if re.search(r"error|fatal", line, re.IGNORECASE)]
    said = "; ".join((first or errors)[:3])
    return said if len(said) <= 600 else textwrap.shorten(said, 600, placeholder=" ...")


def run(
    command: Sequence[str],
    stdin: Any = None,
    stdout: Any = subprocess.PIPE,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program; `stdin` and `stdout` are files, `text` is what it reads instead."""
    source = {"input": text} if text is not None else {"stdin": stdin or subprocess.DEVNULL}
    return subprocess.run(
        list(command),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
        **source,
    )


def docker(*arguments: str, **files: Any) -> str:
    """
    Run the command line of Docker.

    Returns
    -------
    str
        The output.

    Raises
    ------
    RefusedError
        If it fails, with its errors.
    """
    done = run(["docker", *arguments], **files)
    if done.returncode:
        raise RefusedError(plain_errors(done.stderr) or f"exit code {done.returncode}")
    return done.stdout or ""


def inspect(name: str) -> dict[str, Any]:
    """Return what Docker knows about a container; empty if there is none."""
    done = run(["docker", "container", "inspect", name])
    return json.loads(done.stdout)[0] if done.returncode == 0 else {}


def is_running(name: str) -> bool:
    """Tell whether a container runs."""
    return bool(inspect(name).get("State", {}).get("Running"))


def docker_root() -> Path:
    """Find the folder of Docker's data."""
    return Path(docker("info", "--format", "{{.DockerRootDir}}").strip() or "/var/lib/docker")


def free_bytes(folder: Path) -> int:
    """Return the free space of a folder, in bytes."""
    return shutil.disk_usage(folder).free


def need_room(folder: Path, need: int, what: str) -> None:
    """Refuse an operation that would fill a disk; `need` is in bytes."""
    free = free_bytes(folder)
    if free < need + RESERVE:
        raise RefusedError(
            f"{what} may need {show_size(need)} and leave {show_size(RESERVE)} free, but {folder} "
            f"has {show_size(free)} free. `docker system df` and `du -xh {SERVER_DIR}` show what "
            "takes the space"
        )
