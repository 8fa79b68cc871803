"""Ansible callback: keep the modules that Ansible packs for servers from one run to the next."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ansible
from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kept_modules
type: aggregate
short_description: Pack modules once, not in each run
description:
  - Before Ansible sends a module, it looks for all that the module imports and packs it, which
    takes 0.1 to 0.2 seconds. It keeps the result in a folder that ends with the run. This makes
    that folder a link to one that stays, C(.cache/modules), for as long as no module changes.
  - Without it, or where it cannot write, runs are the same but slower.
"""

KEPT = Path(__file__).parents[2] / ".cache/modules"
PACKAGES = Path(ansible.__file__).parents[1]


def sources() -> Iterator[Path]:
    """List files that change when modules do: Ansible's, each collection's, this project's."""
    yield PACKAGES / "ansible/release.py"
    for folder in {PACKAGES, *map(Path, constants.COLLECTIONS_PATHS)}:
        yield from folder.glob("ansible_collections/*/*/MANIFEST.json")
    for folder in (*constants.DEFAULT_MODULE_PATH, *constants.DEFAULT_MODULE_UTILS_PATH):
        yield from Path(folder).rglob("*.py")


def fingerprint(files: Iterable[Path]) -> str:
    """
    Sum up the state of files, without reading them.

    Parameters
    ----------
    files : iterable of pathlib.Path
        Files that exist.

    Returns
    -------
    str
        Sixteen characters that change when a file comes, goes, or is written to.
    """
    states = ((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return hashlib.sha256(repr(sorted(states)).encode()).hexdigest()[:16]


class CallbackModule(CallbackBase):
    """Link the run's folder of packed modules to the one that stays."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept_modules"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # A project on a read-only disk works without.
        with contextlib.suppress(OSError):
            kept = KEPT / fingerprint(sources())
            kept.mkdir(parents=True, exist_ok=True)
            (Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache").symlink_to(kept)
