"""Rules for the commands that prepare a database: ``setup`` once, ``init`` for each release."""

import os
import re
from itertools import islice
from pathlib import Path
from typing import Any

from module_utils.app import has_own_image
from module_utils.procfile import BUILDS

from checks.files import app_folder
from checks.report import Finding

# Commands of tutorials and templates that drop all tables before they create them, and others that
# delete data by design.
DROPS = re.compile(
    r"\bflask\b[^&|;]*?\s(init[-_]?db|initdb|init[-_]database|(drop|reset|recreate|rebuild)\b[\w-]*"
    r"|dropdb|forge|db\s+downgrade)\b"
    r"|\bmanage\.py\s+(create_?db|recreate_?db|reset_?db|drop_?\w*)\b"
    r"|\b(init|reset|recreate|drop|clear)_?(db|database|tables)\.py\b"
    r"|\bschema\.sql\b|\bdrop_all\b|\bdropdb\b|\balembic\s+downgrade\b|\s--(drop|reset|recreate)\b"
    r"|\bdrop\s+(table|database|schema)\b|\btruncate\s+\w|\bpg_restore\b.*(--clean|\s-c\b)"
    r"|\brm\s+(-\w+\s+)*\S*\.(db|sqlite3?)\b",
    re.IGNORECASE,
)
# What the code of such a command contains.
CODE = re.compile(
    rb"drop_all|drop\s+(table|database|schema)|drop_tables|delete\s+from|unlink\(|os\.remove",
    re.IGNORECASE,
)
MOST_FILES = 3000
SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__"}


def check_first_run(app: dict[str, Any], where: str) -> list[Finding]:
    """Check ``setup`` and ``init`` of one entry."""
    found: list[Finding] = []
    setup, init = (str(app.get(key) or "").strip() for key in ("setup", "init"))
    if setup and setup == init:
        fix = "Remove it, or keep in init only what each release may repeat"
        wrong = "is the same command as init, which runs at every release anyway"
        found.append(Finding(f"{where}.setup", wrong, fix, setup, warning=True))
    if DROPS.search(init) and _may_drop(app):
        wrong = "names a command that usually drops all tables, and runs at every release"
        fix = "Use setup, which runs once, and init for migrations, unless it keeps existing tables"
        found.append(Finding(f"{where}.init", wrong, fix, init, warning=True))
    for key, command in (("setup", setup), ("init", init)):
        if BUILDS.search(command) and not has_own_image(app):
            wrong = "compiles files beside the code, which is read-only by then"
            fix = "Move that into build, which runs while the image is built"
            found.append(Finding(f"{where}.{key}", wrong, fix, command, warning=True))
    return found


def _may_drop(app: dict[str, Any]) -> bool:
    """Look for code that drops tables; a source that is not on this machine may have some."""
    folder = app_folder(app)
    if folder is None:
        return True
    files = list(islice(_code(folder), MOST_FILES))
    return len(files) == MOST_FILES or any(CODE.search(_read(file)) for file in files)


def _code(folder: Path) -> Any:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (Path(place, n) for n in names if n.endswith((".py", ".sql", ".sh", ".cfg")))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
