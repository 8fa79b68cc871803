"""Modules in the root of a repository that an app in a folder of it imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

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
