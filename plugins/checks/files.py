"""Look up files of this machine by paths from an inventory, which may be invalid."""

from pathlib import Path


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
