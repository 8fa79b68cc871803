#!/usr/bin/python
"""Ansible module: publish the static files of a release."""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.source_tree import SourceError, Tree, check_size

DOCUMENTATION = r"""
module: static_files
short_description: Publish the static files of a release
description:
  - Copies a folder of the source to where nginx serves it, as regular files of mode 0644 in folders
    of mode 0755.
  - A symbolic link is replaced by the file or folder it leads to. The module fails if that is not
    within the source.
  - Hidden files are left out, except for those in C(.well-known).
  - The folder gets its final name once it is complete.
options:
  source:
    description: The source on the server.
    type: path
    required: true
  folder:
    description: Folder within the source that is published.
    type: str
    required: true
  dest:
    description: The folder that nginx serves.
    type: path
    required: true
  app:
    description: The app's name, for messages.
    type: str
    required: true
  max_mb:
    description: Largest size of the published files, in MiB.
    type: int
    default: 500
  max_files:
    description: Largest number of published files.
    type: int
    default: 50000
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Publish the static files
  static_files:
    app: shop
    source: /opt/flask-vps/apps/shop/releases/0123456789ab/source
    folder: shop/static
    dest: /opt/flask-vps/edge/static/shop/0123456789ab
"""

RETURN = r"""
files:
  description: Number of published files.
  type: int
  returned: always
"""

FOLDER_MODE = 0o755
FILE_MODE = 0o644


def is_published(source: Path, dest: Path, files: dict[str, str]) -> bool:
    """
    Tell whether a folder has exactly the files that it should.

    Parameters
    ----------
    source, dest : pathlib.Path
        The source, and the folder.
    files : dict of str to str
        Path in the source of each file, by its name below `dest`.

    Returns
    -------
    bool
        False also for wrong modes, and for links in place of files.
    """
    if dest.is_symlink() or not dest.is_dir():
        return False
    found = set()
    for folder, folders, names in os.walk(dest):
        if stat.S_IMODE(Path(folder).lstat().st_mode) != FOLDER_MODE:
            return False
        # `os.walk` lists links to folders as folders, but does not enter them.
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found |= {Path(folder, name).relative_to(dest).as_posix() for name in [*names, *links]}
    if found != set(files):
        return False
    for name, path in files.items():
        if (dest / name).lstat().st_mode != stat.S_IFREG | FILE_MODE:
            return False
        if not filecmp.cmp(source / path, dest / name, shallow=False):
            return False
    return True


def publish(source: Path, dest: Path, files: dict[str, str]) -> None:
    """
    Copy files to a folder that gets its name when it is complete.

    Parameters
    ----------
    source, dest, files
        As for `is_published`.
    """
    fresh, old = (dest.with_name(f".{dest.name}.{end}") for end in ("part", "old"))
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    _make(fresh)
    for name, path in files.items():
        _make((fresh / name).parent)
        flags = os.O_RDONLY | os.O_NOFOLLOW
        with (
            os.fdopen(os.open(source / path, flags), "rb") as content,
            (fresh / name).open("xb") as copy,
        ):
            shutil.copyfileobj(content, copy, 1 << 20)
            os.fchmod(copy.fileno(), FILE_MODE)
    if dest.is_symlink():
        dest.unlink()
    elif dest.exists():
        dest.rename(old)
    fresh.rename(dest)
    shutil.rmtree(old, ignore_errors=True)


def _make(folder: Path) -> None:
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir()
        # mkdir is subject to the umask.
        folder.chmod(FOLDER_MODE)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "folder": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "app": {"type": "str", "required": True},
            "max_mb": {"type": "int", "default": 500},
            "max_files": {"type": "int", "default": 50000},
        },
        supports_check_mode=True,
    )
    options = module.params
    source, dest = Path(options["source"]), Path(options["dest"])
    limits = (options["max_mb"], options["max_files"])
    try:
        files = Tree.on_disk(source).published(options["folder"], options["max_files"])
        check_size({name: (source / path).stat().st_size for name, path in files.items()}, *limits)
    except SourceError as error:
        module.fail_json(msg=f"apps.{options['app']}.static: {error}")
    changed = not is_published(source, dest, files)
    if changed and not module.check_mode:
        publish(source, dest, files)
    module.exit_json(changed=changed, files=len(files))


if __name__ == "__main__":
    main()
