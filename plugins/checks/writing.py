"""Advice for an app that writes to its read-only file system: the volume that it needs."""

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from module_utils.app import FILE_VOLUME, has_own_image, volume_path

from checks.reserved import is_taken

# A path that could not be written, in messages of Python, of shells, and of uWSGI and gunicorn.
PATHS = (
    r"Read-only file system: b?['\"]?(?P<path>[^'\"\s]+)",
    r"['\"\u2018](?P<path>[^'\"\u2018\u2019\n]+)['\"\u2019]\)?: Read-only file system",
    r"(?P<path>[^'\"\u2018\u2019\s]*[/.][^'\"\u2018\u2019\s]*): Read-only file system",
    r"'(?P<path>[^']+)' isn't writable",
)
# Folders that are made, not files: the words before the error in a traceback or a message.
MAKES_FOLDER = re.compile(r"mkdir|makedirs|create directory")
# What tools make from the source.
COMPILED = re.compile(r"\.(mo|css|js)$|/\.webassets-cache(/|$)")
# Git leaves out the folder of a log or a database, because it is empty in the source.
NO_FOLDER = r"No such file or directory: b?['\"](?P<path>[^'\"\n]+\.(log|db|sqlite3?)(\.\d+)?)['\"]"
TRACEBACK_CHARACTERS = 500


def write_advice(log: str, entry: Mapping[str, Any] | None = None) -> list[str]:
    """
    Say which volumes an app needs, in the form in which its entry takes them.

    Parameters
    ----------
    log : str
        What the app has printed.
    entry : mapping, optional
        Its completed entry.

    Returns
    -------
    list of str
        Sentences; empty if the log says nothing of the kind.
    """
    entry = entry or {}
    written, missing = _found(log)
    if not written and not missing:
        if "Read-only file system" in log:
            return [
                "The app writes to its file system, which is read-only except for /tmp and its "
                "volumes. Add the folder that it writes to to the `volumes` of its entry."
            ]
        return []
    compiled = {key: None for key in written if COMPILED.search(key[0])}
    written = {key: None for key in written if key not in compiled}
    wanted, beside = [], []
    for path, is_folder in written | missing:
        volume = volume_for(path, is_folder, str(entry.get("module") or ""))
        if volume == path and not is_folder and has_own_image(entry):
            volume = None  # A file needs a link in the image.
        (wanted if volume else beside).append(volume or path)
    found = []
    names = ", ".join(path for path, _ in written)
    if written:
        found.append(f"The app writes to {names}, but its file system is read-only.")
    if compiled:
        names = ", ".join(path for path, _ in compiled)
        found.append(
            f"The app makes {names}, but its file system is read-only. Make it while the image is "
            "built, with a command in its entry such as `build: pybabel compile -d translations`, "
            "`build: flask assets build` or `build: npm run build`, and not when the app runs."
        )
    if missing:
        names = ", ".join(path for path, _ in missing)
        found.append(
            f"The folder of {names} is not in the app's image, as git keeps no empty folders."
        )
    if wanted:
        volumes = ", ".join(dict.fromkeys([*map(str, entry.get("volumes") or []), *wanted]))
        found.append(
            f"To keep what it writes there, set in its entry: `volumes: [{volumes}]`. Without one, "
            "only the folder /tmp is writable, and is not kept."
        )
    for path in beside:
        found.append(
            f"{path} is beside the app's code, where no volume can be: let the app write to a "
            "folder of its own, such as /app/data, and set `volumes: [/app/data]`, or log to "
            "stderr, which `docker logs` shows."
        )
    return [" ".join(found)]


def _found(log: str) -> tuple[dict[tuple[str, bool], None], dict[tuple[str, bool], None]]:
    """List the paths that could not be written, and those without a folder, in their order."""
    written: dict[tuple[str, bool], None] = {}
    for pattern in PATHS:
        for match in re.finditer(pattern, log):
            before = log[max(0, match.start() - TRACEBACK_CHARACTERS) : match.start("path")]
            # Only this traceback's last frames.
            before = before.rpartition("Error: ")[0][-TRACEBACK_CHARACTERS:] or before
            last = "\n".join(before.splitlines()[-5:]) if "\n" in before else before
            written[match["path"].rstrip(":"), bool(MAKES_FOLDER.search(last))] = None
    names = {path for path, _ in written}
    missing = {(m["path"], False): None for m in re.finditer(NO_FOLDER, log)}
    return written, {key: None for key in missing if key[0] not in names}


def volume_for(path: str, is_folder: bool, module: str = "") -> str | None:
    """
    Choose the volume for a path that an app writes to.

    Parameters
    ----------
    path : str
        As the app names it; relative paths begin in /app.
    is_folder : bool
        Whether it is a folder and not a file.
    module : str, optional
        The app's ``module``, whose package is no place for a volume.

    Returns
    -------
    str or None
        An entry of ``volumes`` that preflight accepts; None if there is none.
    """
    whole = volume_path(os.path.normpath(f"/app/{path}" if not path.startswith("/") else path))
    if whole is None:
        return None
    package = re.split(r"[.:]", module, maxsplit=1)[0]
    code = {f"/app/{package}", f"/app/src/{package}"} if package else set()
    for choice in [whole] if is_folder else [str(PurePosixPath(whole).parent), whole]:
        if choice == whole and not is_folder and not FILE_VOLUME.fullmatch(whole):
            continue
        if not is_taken(choice) and choice not in code:
            return choice
    return None
