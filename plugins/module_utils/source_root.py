"""What an app in a folder of a repository needs from the rest of it: modules and packages."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# Packages from outside of the app's folder are in the archive below this folder, then the number of
# levels up, then their path: ../../libs/core is .outside/2/libs/core. The recipe rewrites the lists
# of dependencies accordingly (roles/app/files/recipe/runtime/dependencies/outside.py).
OUTSIDE = ".outside"
REQUIREMENT = re.compile(r"\s*(?:-e\s*|--editable[\s=]+)?(\.\.?(?:/[^\s;\[#]*)?)(?:[\s;\[#]|$)")
OF_PDM = re.compile(r"@\s*file:///\$\{PROJECT_ROOT\}/([^\s;#'\"]+)")
IMPORT = re.compile(r"^\s*(?:from|import)\s+([A-Za-z_]\w*)", re.MULTILINE)


def borrowed_files(
    top: Path, folder: Path, files: Iterable[Path], all_files: Iterable[Path]
) -> list[Path]:
    """
    List the files that an app needs from the root of its repository.

    Parameters
    ----------
    top : pathlib.Path
        The repository.
    folder : pathlib.Path
        The app's folder within it.
    files : iterable of pathlib.Path
        The app's own files.
    all_files : iterable of pathlib.Path
        The files of the repository.

    Returns
    -------
    list of pathlib.Path
        The files of each module in `top`, or in ``src`` below it, that the app or another of these
        modules imports and that the app's folder lacks. No links.
    """
    plain = [file for file in all_files if not file.is_symlink()]
    modules = _modules(top, plain)
    own = {path.stem for path in [*folder.glob("*"), *(folder / "src").glob("*")]}
    for name in [n for n, found in modules.items() if n in own or folder.is_relative_to(found[0])]:
        del modules[name]
    chosen: dict[str, list[Path]] = {}
    fresh = [file for file in files if not file.is_symlink()]
    while fresh:
        wanted = {name for file in fresh for name in imports(file)}
        names = sorted((wanted & set(modules)) - set(chosen))
        chosen |= {name: modules[name][1] for name in names}
        fresh = [file for name in names for file in chosen[name]]
    return sorted(file for found in chosen.values() for file in found)


def _modules(top: Path, files: list[Path]) -> dict[str, tuple[Path, list[Path]]]:
    """List the modules in a repository's root by name: their path, and all files of each."""
    there = set(files)
    found: dict[str, tuple[Path, list[Path]]] = {}
    for base in (top / "src", top):
        for file in files:
            if file.parent == base and file.suffix == ".py":
                found[file.stem] = (file, [file])
            elif file.name == "__init__.py" and file.parent.parent == base:
                found[file.parent.name] = (file.parent, [])
    for path, inner in found.values():
        if path not in there:
            inner += [file for file in files if file.is_relative_to(path)]
    return found


def imports(file: Path) -> set[str]:
    """Name the top modules that a Python file imports; empty for any other file."""
    if file.suffix != ".py":
        return set()
    text = file.read_text(errors="replace")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return set(IMPORT.findall(text))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def outside_paths(folder: Path, lists: Iterable[str]) -> list[str]:
    """
    List the paths of packages that a package's lists of dependencies name outside of its folder.

    Parameters
    ----------
    folder : pathlib.Path
        The package's folder.
    lists : iterable of str
        Paths of the lists below it: ``pyproject.toml``, or files in pip's format.

    Returns
    -------
    list of str
        Normalized, such as ``../core`` or ``../..``.
    """
    paths: list[Any] = []
    for name in lists:
        if name == "pyproject.toml":
            document = manifest(folder)
            uv = _table(document, "tool", "uv", "sources")
            given = [*uv.values(), *_table(document, "tool", "poetry", "dependencies").values()]
            paths += [
                value["path"] for value in given if isinstance(value, dict) and "path" in value
            ]
            paths += OF_PDM.findall(str(_table(document, "project").get("dependencies")))
        elif (folder / name).is_file():
            text = (folder / name).read_text("utf-8-sig", errors="replace")
            paths += [m[1] for line in text.splitlines() if (m := REQUIREMENT.match(line))]
    found = [os.path.normpath(path) for path in paths if isinstance(path, str)]
    return list(dict.fromkeys(path for path in found if path.split("/")[0] == ".."))


def manifest(folder: Path) -> dict[str, Any]:
    """Read the pyproject.toml of a folder; empty if it is missing or not valid."""
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _table(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return a table of a document, empty if it is missing or something else."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def inward(path: str) -> str:
    """Return where the archive has what a normalized path outside of the app's folder names."""
    parts = path.split("/")
    levels = parts.count("..")
    return "/".join([OUTSIDE, str(levels), *parts[levels:]])


def outside_files(
    top: Path, folder: Path, files_of: Callable[[Path], Iterable[Path]]
) -> list[tuple[Path, str]]:
    """
    List the files of packages that an app's dependencies name outside of its folder.

    Parameters
    ----------
    top : pathlib.Path
        The repository. What lies outside of it is left out.
    folder : pathlib.Path
        The app's folder within it.
    files_of : callable
        Lists the files of a folder.

    Returns
    -------
    list of tuple
        Each file, and its name in the archive. Also of the packages that these packages name.
    """
    found: dict[Path, str] = {}
    # Which list counts is not known here, and a package too many does no harm.
    lists = [*folder.glob("*.txt"), *folder.glob("requirements/*.txt"), folder / "pyproject.toml"]
    left = outside_paths(folder, [file.relative_to(folder).as_posix() for file in lists])
    seen = set()
    while left:
        path = left.pop()
        place = Path(os.path.normpath(folder / path))
        if path in seen or not place.is_relative_to(top) or not place.exists():
            continue
        seen.add(path)
        for file in files_of(place) if place.is_dir() else [place]:
            if not file.is_relative_to(folder):
                inner = file.relative_to(place).as_posix()
                found[file] = inward(path) if file == place else f"{inward(path)}/{inner}"
        if place.is_dir():
            left += [
                os.path.normpath(f"{path}/{further}")
                for further in outside_paths(place, ["pyproject.toml"])
            ]
    return sorted(found.items())
