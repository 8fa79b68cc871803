#!/usr/bin/python
"""Ansible module: give an app its own user and group ID, which never changes."""

from __future__ import annotations

import grp
import json
import os
import pwd
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_uid
short_description: Give an app its own user ID
description:
  - The first call for an app takes the next ID that neither another app nor a user or
    group of the server has, and records it. Later calls return the recorded ID.
  - An ID is never given to another app, even after its app was removed, because volumes of the
    removed app may still be on the server.
  - The caller must hold the lock of the server, see M(release_lock).
options:
  app:
    description: The app's name.
    type: str
    required: true
  path:
    description: File that records the IDs of all apps.
    type: path
    required: true
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Give the app a user ID
  app_uid:
    app: shop
    path: /opt/flask-vps/uids.json
  register: shop
"""

RETURN = r"""
uid:
  description: The app's user and group ID.
  type: int
  returned: always
"""

FIRST = 20000
LAST = 29999


def choose(app: str, known: dict[str, int], taken: set[int]) -> int:
    """
    Choose the user ID of an app.

    Parameters
    ----------
    app : str
        The app's name.
    known : dict of str to int
        The user IDs that apps have already, by app.
    taken : set of int
        IDs of the server's users and groups.

    Returns
    -------
    int
        The user ID of the app, existing or new.

    Raises
    ------
    ValueError
        If no ID is left.
    """
    if app in known:
        return known[app]
    start = max([FIRST - 1, *known.values()]) + 1
    for number in range(start, LAST + 1):
        if number not in taken:
            return number
    raise ValueError(f"All user IDs from {FIRST} to {LAST} are taken.")


def numbers_in_use() -> set[int]:
    """List the IDs of the server's users and groups."""
    users = {number for user in pwd.getpwall() for number in (user.pw_uid, user.pw_gid)}
    return users | {group.gr_gid for group in grp.getgrall()}


def read(path: Path) -> dict[str, int]:
    """
    Read the user IDs of all apps.

    Raises
    ------
    ValueError
        If the file is damaged. Guessing would give an app the files of another one.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        return {str(app): int(number) for app, number in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}). It records the user ID of each app: restore it, or "
            'write it again as JSON such as {"shop": 20000}, with what `stat -c %u` shows for each '
            "app's volumes."
        ) from None


def write(path: Path, numbers: dict[str, int]) -> None:
    """Write the user IDs to a new file, then rename it: a partial file is never visible."""
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
