"""List the files of an app's source, resolve its links, and check its size."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ansible.module_utils.safe_git import GitError, WorkTree, looks_bare, work_tree

try:
    from pathspec import GitIgnoreSpec
except ImportError:
    # Only the controller needs and has it.
    GitIgnoreSpec = None

# Never packed, even if git tracks it: git's own files, and secrets.
NEVER = (".git", ".env", ".env.*")
# Not packed unless git tracks it.
USUALLY_IGNORED = (".venv", "venv", "__pycache__", "*.pyc", "node_modules")
# The one hidden folder that is meant for visitors: RFC 8615.
WELL_KNOWN = ".well-known"
# The limit of Linux.
MOST_LINKS = 40
# More than any source needs, and few enough for Python's recursion limit.
MOST_LEVELS = 200


class SourceError(Exception):
    """A problem with a source that the operator can fix."""


class MissingError(SourceError):
    """A path without links that does not exist."""


# -- what a source consists of ---------------------------------------------------------------------


def source_files(root: Path, dockerignore: bool = False) -> list[Path]:
    """
    List the files of a source.

    Parameters
    ----------
    root : pathlib.Path
        The source. In a git work tree, all files that git does not ignore count; elsewhere, or if
        git ignores the whole folder, all files that no .gitignore file matches.
    dockerignore : bool, optional
        Whether the folder's .dockerignore counts; it cannot include files that git ignores.

    Returns
    -------
    list of pathlib.Path
        Files and symbolic links below `root`, in a stable order.

    Raises
    ------
    SourceError
        If a folder looks like a repository, folders are nested too deeply, a submodule is not
        checked out, or git fails.
    """
    root = root.resolve()
    try:
        names = list(_names(root))
        deepest = max((name.count("/") for name in names), default=0)
    except RecursionError:
        deepest = MOST_LEVELS + 1
    if deepest > MOST_LEVELS:
        raise SourceError(
            f"The folders of {root} are nested more than {MOST_LEVELS} deep. Remove them, or list "
            "them in .gitignore."
        )
    if dockerignore:
        docker = _docker_spec(root)
        names = [name for name in names if not docker.check_file(name).include]
    files = [root / name for name in sorted(names, key=lambda name: name.split("/"))]
    for folder in sorted({parent for file in files for parent in _between(root, file)}):
        _refuse_bare(folder)
    return files


def _refuse_bare(folder: Path) -> None:
    if looks_bare(folder):
        raise SourceError(
            f"{folder} looks like a git repository (HEAD, objects/ and refs/, without .git). Git "
            "would take it for one and run commands of its configuration. Remove or rename one of "
            "the three, or keep the repository in an archive."
        )


def _between(root: Path, file: Path) -> Iterator[Path]:
    folder = file.parent
    while folder != root:
        yield folder
        folder = folder.parent


def _names(root: Path) -> Iterator[str]:
    """List the files of a source, relative to it, in any order."""
    _refuse_bare(root)
    tree = work_tree(root)
    try:
        found = tree.files(root) if tree else None
    except GitError as error:
        raise SourceError(f"Git cannot list the files of {root}: {error}") from error
    never = GitIgnoreSpec.from_lines(NEVER)
    usually = GitIgnoreSpec.from_lines((*NEVER, *USUALLY_IGNORED))
    if found is None:
        specs = [(root, usually), *(_patterns_above(tree, root) if tree else ())]
        names = (file.relative_to(root).as_posix() for file in _walk(root, specs))
        # No pattern of a source can include these again.
        yield from (name for name in names if not never.check_file(name).include)
        return
    tracked, submodules, others = found
    known = {"": True}  # whether a folder's path is free of links
    for names, spec in ((tracked, never), (others, usually)):
        for name in names:
            # A slash at the end marks another work tree that is not a submodule.
            plain = name.rstrip("/")
            if not _safe(plain) or spec.check_file(name).include:
                continue
            kind = _kind(root, plain, known)
            if kind in ("file", "link"):
                yield plain
            elif kind == "folder" and name != plain:
                yield from _within(root, plain)
    for name in submodules:
        if not _safe(name) or _kind(root, name, known) != "folder":
            continue
        if _is_top(root / name):
            yield from _within(root, name)
        elif tree.names_submodule(root / name):
            raise SourceError(
                f"The submodule {name} of {root} is not checked out. Run there: "
                "git submodule update --init --recursive"
            )


def _is_top(folder: Path) -> bool:
    """Tell whether a folder is the top of a work tree."""
    tree = work_tree(folder) if os.path.lexists(folder / ".git") else None
    return tree is not None and tree.top == folder


def _within(root: Path, name: str) -> Iterator[str]:
    return (f"{name}/{inner}" for inner in _names(root / name))


def _safe(name: str) -> bool:
    # Git writes no such names, but another program may have written the index.
    return not {"", ".", "..", ".git"} & {part.lower() for part in name.rstrip("/").split("/")}


def _kind(root: Path, name: str, known: dict[str, bool]) -> str:
    """Return "file", "link" or "folder"; empty if a path is missing or leads through a link."""
    if not _is_real(root, name.rpartition("/")[0], known):
        return ""
    try:
        mode = (root / name).lstat().st_mode
    except OSError:
        return ""
    kinds = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "folder"}
    return kinds.get(stat.S_IFMT(mode), "")


def _is_real(root: Path, folder: str, known: dict[str, bool]) -> bool:
    """Tell whether no part of a folder's path is a link."""
    if folder not in known:
        above = folder.rpartition("/")[0]
        known[folder] = _is_real(root, above, known) and not (root / folder).is_symlink()
    return known[folder]


def _docker_spec(root: Path) -> GitIgnoreSpec:
    # All patterns are anchored: https://docs.docker.com/build/concepts/context/
    lines = []
    for line in _lines(root / ".dockerignore"):
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            keep = "!" if pattern.startswith("!") else ""
            lines.append(f"{keep}/{pattern.removeprefix('!').strip().strip('/')}")
    return GitIgnoreSpec.from_lines(lines)


def _lines(file: Path) -> list[str]:
    # Like git since 2.32, do not follow a link, which may lead anywhere on this machine.
    if file.is_symlink() or not file.is_file():
        return []
    # Editors on Windows may write a byte order mark, which git and Docker skip.
    return file.read_text(encoding="utf-8-sig", errors="replace").splitlines()


def _patterns_above(tree: WorkTree, root: Path) -> Iterator[tuple[Path, GitIgnoreSpec]]:
    """Read the ignore patterns of a work tree, except those that match the folder itself."""
    above = [folder for folder in reversed(root.parents) if folder.is_relative_to(tree.top)]
    files = [(tree.top, tree.common / "info/exclude")]
    files += [(folder, folder / ".gitignore") for folder in above]
    for base, file in files:
        name = f"{root.relative_to(base).as_posix()}/"
        lines = [
            line
            for line in _lines(file)
            if not GitIgnoreSpec.from_lines([line.removeprefix("!")]).match_file(name)
        ]
        yield base, GitIgnoreSpec.from_lines(lines)


def _walk(folder: Path, specs: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    """Walk a folder as git would."""
    if lines := _lines(folder / ".gitignore"):
        specs = [*specs, (folder, GitIgnoreSpec.from_lines(lines))]
    for entry in folder.iterdir():
        is_folder = entry.is_dir() and not entry.is_symlink()
        # The pattern "build/" matches folders only; the library needs a slash at their end.
        if _ignored(entry, specs, is_folder):
            continue
        if is_folder and _is_top(entry):
            # A work tree inside a folder that is not one.
            yield from (entry / name for name in _names(entry))
        elif is_folder:
            yield from _walk(entry, specs)
        elif entry.is_file() or entry.is_symlink():
            yield entry


def _ignored(entry: Path, specs: list[tuple[Path, GitIgnoreSpec]], is_folder: bool) -> bool:
    verdict = False
    for base, spec in specs:
        name = entry.relative_to(base).as_posix() + ("/" if is_folder else "")
        # As in git, the last file with a match wins; None means that no pattern matched.
        include = spec.check_file(name).include
        verdict = verdict if include is None else include
    return verdict


# -- where its links lead --------------------------------------------------------------------------


class Tree:
    """
    The files and links of a source by name, without access to the disk.

    Parameters
    ----------
    links : mapping of str to (str or None)
        The target of each symbolic link, or None for a file, by path below the source.
    """

    def __init__(self, links: Mapping[str, str | None]) -> None:
        self.links = links
        self.folders: dict[str, set[str]] = {"": set()}
        for name in links:
            path = ""
            for part in name.split("/"):
                self.folders.setdefault(path, set()).add(part)
                path = f"{path}/{part}".lstrip("/")

    @classmethod
    def of(cls, root: Path, files: Iterable[Path]) -> Tree:
        """Read the links among some files below a folder."""
        return cls(
            {
                file.relative_to(root).as_posix(): str(file.readlink())
                if file.is_symlink()
                else None
                for file in files
            }
        )

    @classmethod
    def on_disk(cls, root: Path) -> Tree:
        """Read everything below a folder."""
        found = []
        for folder, folders, names in os.walk(root):
            found += [Path(folder, name) for name in names]
            found += [Path(folder, name) for name in folders if Path(folder, name).is_symlink()]
        return cls.of(root, [file for file in found if file.is_symlink() or file.is_file()])

    def resolve(self, name: str) -> str:
        """
        Resolve a path and all links on it.

        Parameters
        ----------
        name : str
            A path relative to the source.

        Returns
        -------
        str
            The path of a file or folder without any link.

        Raises
        ------
        SourceError
            If the path or a link leaves the source, does not exist, or links form a circle.
        """
        if name.startswith("/"):
            raise SourceError(f"{name} is not a path within the app's folder")
        at: list[str] = []
        left, followed, last = name.split("/")[::-1], 0, ""
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not at:
                    raise SourceError(last or f"{name} leaves the app's folder")
                at.pop()
                continue
            path = "/".join([*at, part])
            target = self.links.get(path)
            if target is not None:
                followed += 1
                last = f"{path} is a link to {target}, which leaves the app's folder"
                if target.startswith("/"):
                    raise SourceError(last)
                if followed > MOST_LINKS:
                    raise SourceError(f"{path} is a link that leads back to itself")
                left += target.split("/")[::-1]
            elif path in self.folders or path in self.links:
                at.append(part)
            else:
                if last:
                    raise SourceError(
                        f"{name} leads through a link to {path}, which does not exist"
                    )
                raise MissingError(f"{path} does not exist")
        return "/".join(at)

    def leaves(self, name: str) -> bool:
        """Tell whether a path is broken for another reason than a missing file."""
        try:
            self.resolve(name)
        except MissingError:
            return False
        except SourceError:
            return True
        return False

    def published(self, folder: str, most: int = 0) -> dict[str, str]:
        """
        List the files of a folder that visitors may request.

        Parameters
        ----------
        folder : str
            A folder within the source.
        most : int, optional
            Largest number of files, 0 for no limit. Links can multiply files.

        Returns
        -------
        dict of str to str
            By the name below `folder`, the path of a regular file in the source. Hidden files are
            left out, except in ``.well-known``. Links are resolved.

        Raises
        ------
        SourceError
            If `folder` is not a folder, or the whole source; if links within it leave the source,
            are broken, form a circle, or lead to a hidden file. The message names all of them.
        """
        start = self.resolve(folder)
        if start == "":
            raise SourceError(f"{folder} is the app's whole folder, whose code would be served")
        if start not in self.folders:
            raise SourceError(f"{folder} is a file, not a folder")
        found: dict[str, str] = {}
        folders = 0
        problems: list[str] = []
        for name, path, problem in self._reached(start, "", [start]):
            if problem:
                problems.append(problem)
            elif path in self.folders:
                folders += 1
            else:
                found[name] = path
            # Links can also multiply empty folders.
            if most and max(len(found), folders, len(problems)) > most:
                raise SourceError(
                    f"it has more than {most} files or folders, including links, and "
                    f"app_source_max_files is {most}"
                )
        if problems:
            raise SourceError(". ".join(problems))
        return found

    def _reached(self, folder: str, below: str, way: list[str]) -> Iterator[tuple[str, str, str]]:
        """List name, resolved path and problem of each file and folder below a folder."""
        for part in sorted(self.folders[folder]):
            if part.startswith(".") and part != WELL_KNOWN:
                continue
            path, name = f"{folder}/{part}", f"{below}{part}"
            real, problem = path, ""
            if self.links.get(path) is not None:
                try:
                    real = self.resolve(path)
                    problem = _unfit(path, real, way)
                except SourceError as error:
                    problem = str(error)
            yield name, real, problem
            if not problem and real in self.folders:
                yield from self._reached(real, f"{name}/", [*way, real])


def _unfit(path: str, real: str, way: list[str]) -> str:
    known = {WELL_KNOWN, *way[0].split("/")}
    if any(part.startswith(".") and part not in known for part in real.split("/")):
        return f"{path} is a link to {real}, but hidden files are not served"
    if any(f"{folder}/".startswith(f"{real}/" if real else "") for folder in way):
        return f"{path} is a link to a folder that contains it"
    return ""


# -- size ------------------------------------------------------------------------------------------


def check_size(sizes: Mapping[str, int], max_mb: int, max_files: int) -> None:
    """
    Refuse a source that is too large.

    Parameters
    ----------
    sizes : mapping of str to int
        Size of each file, in bytes.
    max_mb, max_files : int
        Limits of the total size, in MiB, and of the number of files.

    Raises
    ------
    SourceError
        If a limit is exceeded. The message names the largest files or folders.
    """
    total = sum(sizes.values())
    fix = "Remove what the app does not need, list it in .gitignore, or raise {}."
    if total > max_mb * 2**20:
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:5]
        listing = ", ".join(f"{name} ({_mb(sizes[name])})" for name in largest)
        raise SourceError(
            f"has {_mb(total)}, but app_source_max_mb is {max_mb}. Largest: {listing}. "
            + fix.format("app_source_max_mb")
        )
    if len(sizes) > max_files:
        folders = Counter(name.rpartition("/")[0] or "." for name in sizes)
        listing = ", ".join(f"{name} ({count})" for name, count in folders.most_common(5))
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:5]
        raise SourceError(
            f"has {len(sizes)} files, but app_source_max_files is {max_files}. Most are in: "
            f"{listing}. Largest: {', '.join(largest)}. " + fix.format("app_source_max_files")
        )


def _mb(size: int) -> str:
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{max(size, 1) / 2**10:.0f} kB"
