#!/usr/bin/python
"""Ansible module: give an app a user and group number of its own, once and for good."""

from __future__ import annotations

import grp
import json
import os
import pwd
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_uid
short_description: Give an app a user number of its own
description:
  - The first call for an app takes the next number that neither another app nor a user or
    group of the server has, and records it. Later calls return the recorded number.
  - A number is never given to another app, even after its app was removed, because volumes of the
    removed app may still be on the server.
  - The caller must hold the lock of the server, see M(release_lock).
options:
  app:
    description: The app's name.
    type: str
    required: true
  path:
    description: File that records the numbers of all apps.
    type: path
    required: true
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Give the app a user number
  app_uid:
    app: shop
    path: /opt/flask-vps/uids.json
  register: shop
"""

RETURN = r"""
uid:
  description: The app's user and group number.
  type: int
  returned: always
"""

FIRST = 20000
LAST = 29999


def choose(app: str, known: dict[str, int], taken: set[int]) -> int:
    """
    Choose an app's number.

    Parameters
    ----------
    app : str
        The app's name.
    known : dict of str to int
        The numbers that were given before, by app.
    taken : set of int
        Numbers of the server's users and groups.

    Returns
    -------
    int
        The number that the app has, or is to have.

    Raises
    ------
    ValueError
        If none is left.
    """
    if app in known:
        return known[app]
    start = max([FIRST - 1, *known.values()]) + 1
    for number in range(start, LAST + 1):
        if number not in taken:
            return number
    raise ValueError(f"All numbers from {FIRST} to {LAST} were given to apps.")


def numbers_in_use() -> set[int]:
    """List the numbers of the server's users and groups; a group may have members by its name."""
    users = {number for user in pwd.getpwall() for number in (user.pw_uid, user.pw_gid)}
    return users | {group.gr_gid for group in grp.getgrall()}


def read(path: Path) -> dict[str, int]:
    """
    Read the numbers.

    Raises
    ------
    ValueError
        If the file is not what this module writes: to guess then would give an app the files of
        another.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        return {str(app): int(number) for app, number in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}). It says as which number each app runs: restore it, or "
            'write it anew as JSON such as {"shop": 20000}, by what `stat -c %u` says of each '
            "app's volumes."
        ) from None


def write(path: Path, numbers: dict[str, int]) -> None:
    """Write the numbers, under the file's last name only when they are whole."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("w") as file:
        json.dump(numbers, file, indent=2, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path, app = Path(module.params["path"]), module.params["app"]
    taken = numbers_in_use()
    try:
        numbers = read(path)
        uid = choose(app, numbers, taken)
    except ValueError as error:
        module.fail_json(msg=str(error))
    changed = app not in numbers
    if changed and not module.check_mode:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, {**numbers, app: uid})
    module.exit_json(changed=changed, uid=uid)


if __name__ == "__main__":
    main()
