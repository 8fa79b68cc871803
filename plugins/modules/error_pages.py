#!/usr/bin/python
"""Ansible module: publish the error pages that an app brings."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: error_pages
short_description: Publish the error pages that an app brings
description:
  - Copies the pages of a source's folder, such as C(413.html), to a folder from which nginx serves
    them, and removes pages there that the source no longer has.
  - Only files with the names of pages count. A link, a large file, and a template such as Jinja's
    are left out with a warning, because visitors would get the wrong text.
options:
  source:
    description: The source's folder of error pages. It need not exist.
    type: path
    required: true
  dest:
    description: The folder that nginx serves the pages from.
    type: path
    required: true
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Publish the error pages of an app
  error_pages:
    source: /opt/flask-vps/apps/shop/releases/0123456789ab/source/errors
    dest: /opt/flask-vps/edge/errors/shop
"""

RETURN = r"""
pages:
  description: Names of the published pages.
  type: list
  elements: str
  returned: always
"""

NAMES = (*(f"{code}.html" for code in (400, 401, 413, 429, 502, 503, 504)), "maintenance.html")
LARGEST = 1 << 20
MODE = 0o644


def read_page(file: Path) -> tuple[bytes | None, str]:
    """Read a page; the second value says why it is left out."""
    if file.is_symlink():
        return None, "it is a link"
    state = file.lstat()
    if not stat.S_ISREG(state.st_mode):
        return None, "it is not a file"
    if state.st_size > LARGEST:
        return None, f"it is larger than {LARGEST >> 20} MB"
    content = file.read_bytes()
    if b"{%" in content or b"{{" in content:
        return None, "it is a template, which nginx cannot fill in; write plain HTML"
    return content, ""


def pages_of(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """
    Read the pages of a folder.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; a link in its place does not count.

    Returns
    -------
    pages : dict of str to bytes
        Content by name.
    warnings : list of str
        Pages that are left out, and why.
    """
    pages, warnings = {}, []
    if folder.is_symlink() or not folder.is_dir():
        return pages, warnings
    for name in NAMES:
        file = folder / name
        if not os.path.lexists(file):
            continue
        content, reason = read_page(file)
        if content is None:
            warnings.append(f"errors/{name} is not used: {reason}.")
        else:
            pages[name] = content
    return pages, warnings


def publish(pages: dict[str, bytes], dest: Path, check: bool = False) -> bool:
    """
    Make a folder hold exactly these pages.

    Parameters
    ----------
    pages : dict of str to bytes
        Content by name.
    dest : pathlib.Path
        The folder; it is made if there are pages.
    check : bool, optional
        Whether to change nothing.

    Returns
    -------
    bool
        Whether anything changed or would change.
    """
    there = {file.name: file for file in dest.iterdir()} if dest.is_dir() else {}
    changed = False
    for name, content in pages.items():
        file = dest / name
        if name in there and file.is_file() and file.read_bytes() == content:
            continue
        changed = True
        if not check:
            dest.mkdir(mode=0o755, exist_ok=True)
            # The umask applies to mkdir.
            dest.chmod(0o755)
            # nginx serves either the old or the new page.
            fresh = dest / f".{name}.part"
            fresh.write_bytes(content)
            fresh.chmod(MODE)
            fresh.replace(file)
    for name in set(there) - set(pages):
        changed = True
        if not check:
            there[name].unlink(missing_ok=True)
    return changed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    pages, warnings = pages_of(Path(module.params["source"]))
    for warning in warnings:
        module.warn(warning)
    changed = publish(pages, Path(module.params["dest"]), module.check_mode)
    module.exit_json(changed=changed, pages=sorted(pages))


if __name__ == "__main__":
    main()
