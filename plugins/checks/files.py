"""Look up files of this machine by paths from an inventory, which may be invalid."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from module_utils.app import is_git


def local(path: str) -> Path:
    """Expand the home folder in a path; a path with an unknown user stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: Path) -> bool:
    """Tell whether a file exists; False for an invalid name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Tell whether a folder exists; False for an invalid name."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def within(root: Path, name: str) -> Path | None:
    """
    Resolve a path inside a folder.

    Parameters
    ----------
    root : pathlib.Path
        The folder.
    name : str
        A path relative to it.

    Returns
    -------
    pathlib.Path or None
        None if it leads out of the folder, also through a link, or is not a valid path.
    """
    try:
        path = (root / name).resolve()
    except (OSError, ValueError):
        return None
    return path if path.is_relative_to(root.resolve()) and not Path(name).is_absolute() else None


def app_folder(app: Mapping[str, Any]) -> Path | None:
    """Return the folder of an app on this machine; None for a repository or a wrong path."""
    source = app.get("source")
    if not isinstance(source, str) or not source or is_git(source) or not is_folder(local(source)):
        return None
    folder = within(local(source), str(app.get("folder") or ""))
    return folder if folder and is_folder(folder) else None
