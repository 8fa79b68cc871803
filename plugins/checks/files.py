"""Files of this machine that an inventory names, however wrongly."""

from pathlib import Path


def local(path: str) -> Path:
    """
    Write out a path's home folder.

    Parameters
    ----------
    path : str
        A path as an inventory has it.

    Returns
    -------
    pathlib.Path
        The path; as it is when it names the home of nobody.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: Path) -> bool:
    """Tell whether there is such a file; a name that cannot be one is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Tell whether there is such a folder; a name that cannot be one is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def within(root: Path, name: str) -> Path | None:
    """
    Find what a name means inside a folder.

    Parameters
    ----------
    root : pathlib.Path
        The folder.
    name : str
        A path relative to it.

    Returns
    -------
    pathlib.Path or None
        None when it leads out of the folder, links followed, or cannot be a name.
    """
    try:
        path = (root / name).resolve()
    except (OSError, ValueError):
        return None
    return path if path.is_relative_to(root.resolve()) and not Path(name).is_absolute() else None
