#!/usr/bin/python
"""Ansible module: pack an app's source, without what git ignores, into a reproducible archive."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.python_versions import Choice, choose, image_key, wishes
from ansible.module_utils.safe_git import work_tree
from ansible.module_utils.source_root import borrowed_files, outside_files
from ansible.module_utils.source_tree import (
    GitIgnoreSpec,
    SourceError,
    Tree,
    check_size,
    source_files,
)

DOCUMENTATION = r"""
module: source_archive
short_description: Pack an app's source into a reproducible archive
description:
  - Packs a folder of the controller into a gzipped tar file. The same content always gives the same
    archive.
  - In a git work tree it packs the files that git does not ignore. Elsewhere it packs the files
    that no .gitignore file names.
  - Files that should never be committed are left out, such as .git, virtual environments and .env
    files.
  - A source with a symbolic link that leads out of it is refused if the build or nginx would follow
    that link.
options:
  app:
    description: The app's name, for messages.
    type: str
    default: ""
  path:
    description: The folder to pack.
    type: path
    required: true
  dest:
    description: The archive to write. Without it only the digest is computed.
    type: path
  folder:
    description: Pack only this folder within O(path).
    type: str
    default: ""
  commit:
    description: The commit, if it is known. Otherwise git is asked for it.
    type: str
    default: ""
  digest:
    description: The digest that was computed before. The module fails if the source changed since.
    type: str
    default: ""
  needs:
    description:
      - By the name of a variable, a list of files or folders of which at least one must be packed.
    type: dict
    default: {}
  static:
    description: Folder whose files nginx will serve.
    type: str
    default: ""
  max_mb:
    description: Largest size of the packed files, in MiB.
    type: int
    default: 500
  max_files:
    description: Largest number of packed files.
    type: int
    default: 50000
  recipe:
    description:
      - A folder to pack beside the source, which then lies in C(source/). It does not count for the
        digest.
    type: path
  dockerignore:
    description:
      - Whether to leave out what .dockerignore names. Not needed for an app with a Dockerfile of
        its own, for which Docker reads that file.
    type: bool
    default: false
  python:
    description:
      - The version of Python in the app's entry. If it is empty, the files of the source decide.
    type: str
    default: ""
  pythons:
    description:
      - The versions that there are images of. Without any, the source is not asked for one.
    type: list
    elements: str
    default: []
  python_default:
    description: The version of the image C(python).
    type: str
    default: ""
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Pack the app
  source_archive:
    path: ./app
    dest: /tmp/app.tar.gz
  delegate_to: localhost
"""

RETURN = r"""
digest:
  description: First 12 digits of the SHA-256 of names and contents.
  type: str
  returned: always
files:
  description: Number of packed files.
  type: int
  returned: always
procfile:
  description: Content of the file C(Procfile) in the app's folder; empty if there is none.
  type: str
  returned: always
commit:
  description:
    - The first ten digits of the git commit, with C(-dirty) appended if files differ from it. Empty
      without git.
  type: str
  returned: always
python_image:
  description: Key of the image with the app's Python in C(images_names).
  type: str
  returned: always
"""

# What git keeps instead of a large file: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
POINTER = b"version https://git-lfs.github.com/spec/v1"
POINTER_BYTES = 1024
# Files that are read through a link on the server, as root or during a build.
READ_IN_PLACE = (
    *("requirements.txt", "pyproject.toml", "pdm.lock", "uv.lock", "poetry.lock"),
    *("Pipfile.lock", "setup.py", "setup.cfg"),
)
# In bytes.
MOST_OF_PROCFILE = 65536
MEND_LINK = "Replace the link with a copy, or correct the app's entry."


class Digest:
    """A file object that only computes the SHA-256 of what is written to it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def write(self, content: bytes) -> int:
        """Take a part of the content."""
        self._hash.update(content)
        return len(content)

    def name(self) -> str:
        """Return the first 12 digits."""
        return self._hash.hexdigest()[:12]


def pack(files: Iterable[tuple[Path, str]], target: IO[bytes] | Digest) -> None:
    """
    Pack files, one block after the other.

    Parameters
    ----------
    files : iterable of (pathlib.Path, str)
        What to pack, and its name in the archive.
    target : binary file
        Gets a tar file; owners and times are zeroed, modes reduced to 644 and 755. A file with two
        names is in it twice.
    """
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for file, name in files:
            info = tarfile.TarInfo(name)
            if file.is_symlink():
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(file.readlink()), 0o755
                tar.addfile(info)
                continue
            # Does not follow a link that was made since, nor wait for the writer of a pipe.
            with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as f:
                state = os.fstat(f.fileno())
                if not stat.S_ISREG(state.st_mode):
                    raise SourceError(f"{file} is no longer a file")
                info.size, info.mode = state.st_size, 0o755 if state.st_mode & 0o100 else 0o644
                tar.addfile(info, f)
            # The list of members would grow, and is not needed.
            tar.members.clear()


def named(files: Iterable[Path], root: Path, prefix: str = "") -> list[tuple[Path, str]]:
    """
    Name files by their path below a folder.

    Parameters
    ----------
    files : iterable of pathlib.Path
        What to name.
    root : pathlib.Path
        The folder.
    prefix : str, optional
        What each name begins with.

    Returns
    -------
    list of (pathlib.Path, str)
        Each file with its name.
    """
    return [(file, prefix + file.relative_to(root).as_posix()) for file in files]


def write_archive(members: Iterable[tuple[Path, str]], dest: Path, check: bool = False) -> bool:
    """
    Write an archive, unless the same one exists already.

    Parameters
    ----------
    members : iterable of (pathlib.Path, str)
        As for `pack`.
    dest : pathlib.Path
        The archive. It is replaced as a whole.
    check : bool, optional
        Whether to leave the file as it is.

    Returns
    -------
    bool
        Whether the archive changed, or would change.
    """
    fresh = dest.with_name(f".{dest.name}.part")
    # Readable by its owner only: the source may be private.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    try:
        with (
            os.fdopen(os.open(fresh, flags, 0o600), "wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed,
        ):
            pack(members, packed)
        changed = not dest.exists() or _sum(dest) != _sum(fresh)
        if changed and not check:
            fresh.rename(dest)
        return changed
    finally:
        fresh.unlink(missing_ok=True)


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def lacking(tree: Tree, needs: dict[str, list[str]]) -> list[str]:
    """
    List what is missing among the packed files, or leads out of them.

    Parameters
    ----------
    tree : Tree
        The packed files.
    needs : dict
        As the module's option of the same name.

    Returns
    -------
    list of str
        A sentence for each variable whose files and folders are all missing, and for each broken
        link.
    """
    problems = []
    for variable, wanted in needs.items():
        there, wrong = False, ""
        for path in wanted:
            try:
                tree.resolve(path)
                there = True
            except SourceError as error:
                # A broken link is reported as such, not as a missing file.
                wrong = wrong or (str(error) if tree.leaves(path) else "")
        if wrong:
            problems.append(f"{variable}: {wrong}. {MEND_LINK}")
        elif not there:
            missing = (
                f"the source has no {' or '.join(wanted)}, or .gitignore or .dockerignore names it."
            )
            problems.append(f"{variable}: {missing}")
    return problems


def problems_of(tree: Tree, options: dict[str, Any], sizes: dict[str, int]) -> list[str]:
    """
    Find problems in the names, links and sizes of a source.

    Parameters
    ----------
    tree : Tree
        The packed files.
    options : dict
        The module's options.
    sizes : dict
        Size of each regular file by its name, in bytes.

    Returns
    -------
    list of str
        Sentences that name the variable, what is wrong, and what to do.
    """
    where = f"apps.{options['app']}" if options["app"] else "The source"
    found = lacking(tree, options["needs"])
    limits = (options["max_mb"], options["max_files"])
    try:
        check_size(sizes, *limits)
    except SourceError as error:
        found.append(f"{where}.source: {error}")
    # Docker looks for one beside each Dockerfile.
    for name in (*READ_IN_PLACE, *(n for n in tree.links if n.endswith(".dockerignore"))):
        if tree.links.get(name) is not None:
            try:
                tree.resolve(name)
            except SourceError as error:
                found.append(f"{where}.source: {error}. {MEND_LINK}")
    static = options["static"]
    if static and not any(problem.startswith(f"{where}.static: ") for problem in found):
        try:
            public = tree.published(static, options["max_files"])
            check_size({name: sizes[path] for name, path in public.items()}, *limits)
        except SourceError as error:
            found.append(f"{where}.static: {str(error).rstrip('.')}. {MEND_LINK}")
    return list(dict.fromkeys(found))


def pointers(members: Iterable[tuple[Path, str]]) -> list[str]:
    """List the files that are pointers of Git LFS, not the files that they stand for."""
    found = []
    for file, name in members:
        if not file.is_symlink() and len(POINTER) < file.stat().st_size <= POINTER_BYTES:
            with file.open("rb") as opened:
                if opened.read(len(POINTER)) == POINTER:
                    found.append(name)
    return found


def _without_pointers(members: Iterable[tuple[Path, str]], options: dict[str, Any]) -> None:
    """Refuse a source with pointers of Git LFS, which nginx would serve as they are."""
    found = pointers(members)
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        fix = (
            "Install git-lfs on this machine (sudo apt-get install git-lfs) and deploy again"
            if options["commit"]
            else "Run `git lfs pull` in the source"
        )
        wrong = f"{shown} came as a Git LFS pointer, without the file itself"
        raise SourceError(f"apps.{options['app']}.source: {wrong}. {fix}.")


def choose_python(root: Path, options: dict[str, Any]) -> Choice:
    """
    Choose the app's version of Python.

    Parameters
    ----------
    root : pathlib.Path
        The app's folder.
    options : dict
        The module's options.

    Returns
    -------
    Choice
        The version, perhaps with a warning.

    Raises
    ------
    SourceError
        If no image has a version that the app can run with.
    """
    given, there = options["python"], options["pythons"]
    if not there:
        return Choice("" if given == options["python_default"] else given)
    choice = choose(given, wishes(root), there, options["python_default"])
    if choice.wrong and not choice.mild:
        raise SourceError(f"apps.{options['app']}.python: {choice.wrong}. {choice.fix}.")
    return choice


def inner_folder(root: Path, folder: str) -> Path:
    """
    Find the folder to pack within a source.

    Parameters
    ----------
    root : pathlib.Path
        The source.
    folder : str
        Path relative to it.

    Returns
    -------
    pathlib.Path
        The folder, links resolved.

    Raises
    ------
    SourceError
        If there is none, or it is not within the source.
    """
    top = root.resolve()
    try:
        found = (top / folder).resolve()
    except (OSError, RuntimeError, ValueError):
        found = None  # no name, or links in a circle
    if found and not found.is_relative_to(top):
        raise SourceError(f"{folder} leads out of the source: correct `folder` in the app's entry.")
    if not found or not found.is_dir():
        raise SourceError(
            f"The source has no folder {folder}: correct `folder` in the app's entry."
        )
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "default": ""},
            "path": {"type": "path", "required": True},
            "dest": {"type": "path"},
            "folder": {"type": "str", "default": ""},
            "commit": {"type": "str", "default": ""},
            "digest": {"type": "str", "default": ""},
            "needs": {"type": "dict", "default": {}},
            "static": {"type": "str", "default": ""},
            "max_mb": {"type": "int", "default": 500},
            "max_files": {"type": "int", "default": 50000},
            "recipe": {"type": "path"},
            "dockerignore": {"type": "bool", "default": False},
            "python": {"type": "str", "default": ""},
            "pythons": {"type": "list", "elements": "str", "default": []},
            "python_default": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    if GitIgnoreSpec is None:
        module.fail_json(msg=missing_required_lib("pathspec"))
    try:
        module.exit_json(**archive(module.params, module.check_mode))
    except (SourceError, OSError, tarfile.TarError) as error:
        module.fail_json(msg=_printable(str(error)))


def _printable(text: str) -> str:
    # Names of files may contain bytes that are not text.
    return text.encode(errors="backslashreplace").decode()


def archive(options: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """
    Check a source, and pack it.

    Parameters
    ----------
    options : dict
        The module's options.
    check : bool, optional
        Whether to leave the archive as it is.

    Returns
    -------
    dict
        What the module returns.

    Raises
    ------
    SourceError
        If something is wrong with the source.
    """
    root = Path(options["path"])
    if not root.is_dir():
        raise SourceError(f"The source {root} is not a folder on the controller.")
    top = root.resolve()
    root = inner_folder(root, options["folder"])
    files = source_files(root, options["dockerignore"])
    if not files:
        raise SourceError(f"The source {root} contains no file that git does not ignore.")
    sizes = {
        file.relative_to(root).as_posix(): file.lstat().st_size
        for file in files
        if not file.is_symlink()
    }
    borrowed = []
    # The build context of an app's own Dockerfile stays as it is.
    if root != top and options["dockerignore"]:
        # What is wrong elsewhere in the repository does not concern the app.
        with contextlib.suppress(SourceError):
            borrowed = named(borrowed_files(top, root, files, source_files(top)), top)
        borrowed += outside_files(top, root, source_files)
        sizes |= {name: file.lstat().st_size for file, name in borrowed}
    if problems := problems_of(Tree.of(root, files), options, sizes):
        raise SourceError("\n".join(problems))
    _without_pointers([*named(files, root), *borrowed], options)
    python = choose_python(root, options)
    digest = Digest()
    pack([*named(files, root), *borrowed], digest)
    if options["digest"] not in ("", digest.name()):
        raise SourceError(
            f"The source of {options['app']} changed while it was being deployed. Deploy it again."
        )
    changed = False
    if options["dest"]:
        below = "source/" if options["recipe"] else ""
        members = named(files, root, below)
        members += [(file, below + name) for file, name in borrowed]
        if options["recipe"]:
            recipe = Path(options["recipe"])
            parts = (f for f in sorted(recipe.rglob("*")) if "__pycache__" not in f.parts)
            members += named((f for f in parts if f.is_file()), recipe)
        changed = write_archive(members, Path(options["dest"]), check)
    commit = options["commit"][:10]
    if not commit and (tree := work_tree(root)):
        commit = tree.commit(root)
    return {
        "changed": changed,
        "digest": digest.name(),
        "files": len(files) + len(borrowed),
        "commit": commit,
        "procfile": _procfile(root, files),
        "python_image": image_key(python.version),
        # Preflight has warned of a folder; a repository was not there yet.
        "warnings": [f"apps.{options['app']}: it {python.wrong}. {python.fix}."]
        if python.wrong and options["commit"]
        else [],
    }


def _procfile(root: Path, files: list[Path]) -> str:
    """Read the Procfile of an app; empty if it has none, or one that is too long to be one."""
    file = root / "Procfile"
    if file not in files or file.is_symlink() or file.stat().st_size > MOST_OF_PROCFILE:
        return ""
    return file.read_text(encoding="utf-8-sig", errors="replace")


if __name__ == "__main__":
    main()
