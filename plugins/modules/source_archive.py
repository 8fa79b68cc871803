#!/usr/bin/python
"""Ansible module: pack an app's source, without what git ignores, into a reproducible archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from pathspec import GitIgnoreSpec
except ImportError:
    GitIgnoreSpec = None

DOCUMENTATION = r"""
module: source_archive
short_description: Pack an app's source into a reproducible archive
description:
  - Packs a folder of the controller into a gzipped tar file. What .gitignore files name stays
    out, and so do .git, virtual environments, bytecode and .env files.
  - With O(dockerignore), what .dockerignore names stays out, too.
  - The same content gives the same archive, whenever and wherever it is packed.
options:
  path: {description: The folder to pack., type: path, required: true}
  dest: {description: The archive to write; without it only the digest is computed., type: path}
  folder: {description: Pack only this folder of the path., type: str, default: ""}
  gitignore:
    description:
      - Whether .gitignore counts. Not in a checkout, which holds what was committed and no more.
    type: bool
    default: true
  needs:
    description:
      - What must be among the packed files, by the variable that says so. One of each list will
        do, as a file or as a folder.
    type: dict
    default: {}
  recipe:
    description:
      - A folder whose content goes beside the source, which then lies in C(source/). The digest is
        of the source alone.
    type: path
  dockerignore:
    description:
      - Whether .dockerignore counts. Not for an app with a Dockerfile of its own, for which
        Docker reads it.
    type: bool
    default: false
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Pack the app
  source_archive: {path: ./app, dest: /tmp/app.tar.gz}
  delegate_to: localhost
"""

RETURN = r"""
digest:
  description: First 12 digits of the SHA-256 of names and contents.
  type: str
  returned: always
files: {description: How many files are inside., type: int, returned: always}
commit:
  description: The git commit of the folder, marked C(-dirty) if files differ; empty without git.
  type: str
  returned: always
"""

# Never wanted in an image, whatever .gitignore says.
ALWAYS_IGNORED = (".git", ".venv", "venv", "__pycache__", "*.pyc", ".env", ".env.*", "node_modules")


def source_files(root: Path, gitignore: bool = True, dockerignore: bool = False) -> Iterator[Path]:
    """
    Walk a folder as git would.

    Parameters
    ----------
    root : pathlib.Path
        The folder to walk.
    gitignore : bool, optional
        Whether the folder's own .gitignore files count.
    dockerignore : bool, optional
        Whether the folder's .dockerignore counts; it cannot bring back what is ignored otherwise.

    Yields
    ------
    pathlib.Path
        Files and symbolic links below `root` that are not ignored, in a stable order.
    """
    specs = [(root, GitIgnoreSpec.from_lines(ALWAYS_IGNORED))]
    docker = [(root, _docker_spec(root))] if dockerignore else []
    for file in _walk(root, specs, gitignore):
        if not _ignored(file, docker, is_folder=False):
            yield file


def _docker_spec(root: Path) -> GitIgnoreSpec:
    # Its patterns are all anchored: https://docs.docker.com/build/concepts/context/
    file = root / ".dockerignore"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    lines = []
    for line in text.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            keep = "!" if pattern.startswith("!") else ""
            lines.append(f"{keep}/{pattern.removeprefix('!').strip().strip('/')}")
    return GitIgnoreSpec.from_lines(lines)


def _walk(folder: Path, specs: list[tuple[Path, GitIgnoreSpec]], gitignore: bool) -> Iterator[Path]:
    ignore_file = folder / ".gitignore"
    if gitignore and ignore_file.is_file():
        lines = ignore_file.read_text(encoding="utf-8", errors="replace").splitlines()
        specs = [*specs, (folder, GitIgnoreSpec.from_lines(lines))]
    for entry in sorted(folder.iterdir()):
        is_folder = entry.is_dir() and not entry.is_symlink()
        # The pattern "build/" names folders only, which the library tells by a trailing slash.
        if _ignored(entry, specs, is_folder):
            continue
        if is_folder:
            yield from _walk(entry, specs, gitignore)
        elif entry.is_file() or entry.is_symlink():
            yield entry


def _ignored(entry: Path, specs: list[tuple[Path, GitIgnoreSpec]], is_folder: bool) -> bool:
    verdict = False
    for base, spec in specs:
        name = entry.relative_to(base).as_posix() + ("/" if is_folder else "")
        # The last file with an opinion wins, as in git: None means that no pattern matched.
        include = spec.check_file(name).include
        verdict = verdict if include is None else include
    return verdict


def pack(files: Iterable[tuple[Path, str]]) -> bytes:
    """
    Pack files.

    Parameters
    ----------
    files : iterable of (pathlib.Path, str)
        What to pack, and its name in the archive.

    Returns
    -------
    bytes
        A tar file; owners and times are zeroed, modes reduced to 644 and 755.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file, name in files:
            info = tar.gettarinfo(file, arcname=name)
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            if info.isreg():
                with file.open("rb") as content:
                    tar.addfile(info, content)
            else:
                tar.addfile(info)
    return buffer.getvalue()


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


def git_commit(root: Path) -> str:
    """Name the commit of a folder, which a person wants to know and the digest does not need."""
    # Without tags: they move, and `--always` then gives the commit alone.
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def lacking(names: Iterable[str], needs: dict[str, list[str]]) -> list[str]:
    """
    Say what is missing among packed files.

    Parameters
    ----------
    names : iterable of str
        Paths of the packed files.
    needs : dict
        As the module's option of the same name.

    Returns
    -------
    list of str
        A sentence for each variable whose files and folders are all missing.
    """
    names = set(names)
    there = names | {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return [
        f"{variable}: the source has no {' or '.join(wanted)}, or its .gitignore names it."
        for variable, wanted in needs.items()
        if not there & {str(PurePosixPath(path)) for path in wanted}
    ]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "dest": {"type": "path"},
            "folder": {"type": "str", "default": ""},
            "gitignore": {"type": "bool", "default": True},
            "needs": {"type": "dict", "default": {}},
            "recipe": {"type": "path"},
            "dockerignore": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if GitIgnoreSpec is None:
        module.fail_json(msg=missing_required_lib("pathspec"))
    root = Path(module.params["path"])
    if not root.is_dir():
        module.fail_json(msg=f"The source {root} is not a folder on the controller.")
    folder = module.params["folder"]
    if folder:
        root, top = (root / folder).resolve(), root.resolve()
        if not root.is_dir() or not root.is_relative_to(top):
            module.fail_json(
                msg=f"The source has no folder {folder}: mend `folder` of the app's entry."
            )

    files = list(source_files(root, module.params["gitignore"], module.params["dockerignore"]))
    if not files:
        module.fail_json(msg=f"The source {root} holds no file that git would not ignore.")
    if module.params["needs"]:
        names = (name for _, name in named(files, root))
        if problems := lacking(names, module.params["needs"]):
            module.fail_json(msg="\n".join(problems))
    digest = hashlib.sha256(pack(named(files, root))).hexdigest()[:12]
    changed = False
    if module.params["dest"]:
        dest = Path(module.params["dest"])
        members = named(files, root, "source/" if module.params["recipe"] else "")
        if module.params["recipe"]:
            recipe = Path(module.params["recipe"])
            members += named((f for f in sorted(recipe.rglob("*")) if f.is_file()), recipe)
        archive = gzip.compress(pack(members), mtime=0)
        changed = not dest.exists() or dest.read_bytes() != archive
        if changed and not module.check_mode:
            # Readable by its maker alone: the source may be private.
            with os.fdopen(os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
                f.write(archive)
    module.exit_json(changed=changed, digest=digest, files=len(files), commit=git_commit(root))


if __name__ == "__main__":
    main()
