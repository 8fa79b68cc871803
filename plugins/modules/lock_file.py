#!/usr/bin/python
"""Ansible module: let one run at a time change the releases of a server."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.paths import LOCK

DOCUMENTATION = r"""
module: lock_file
short_description: Write, remove or read the file of a server's lock
description:
  - The action M(release_lock) calls this module, and decides whether a holder still runs.
options:
  state:
    description:
      - V(taken) writes the file unless another run has the lock.
      - V(given_back) removes the file if O(holder) has the lock.
      - V(read) changes nothing.
    type: str
    choices: [taken, given_back, read]
    required: true
  path:
    description: The lock's file.
    type: path
    default: /opt/flask-vps/lock
  holder:
    description: The run that takes the lock or gives it back. Its C(id) is compared.
    type: dict
    default: {}
  instead_of:
    description: The holder whose lock may be taken over, as it was read.
    type: dict
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Read the lock
  lock_file:
    state: read
"""

RETURN = r"""
holder:
  description: The holder of the lock; null if it is free.
  type: dict
  returned: always
silent_seconds:
  description: Time since the lock was last taken or renewed, by the server's clock, in seconds.
  type: float
  returned: always
"""


def read(path: Path) -> dict[str, Any] | None:
    """Read the holder of the lock; None if it is free."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    with suppress(ValueError):
        if isinstance(found := json.loads(text), dict) and "id" in found:
            return found
    # A server that crashed may leave an empty file, which no run renews.
    who = dict.fromkeys(("user", "host", "since"), "unknown")
    return {"id": "", "renewed": True, **who}


def silence(path: Path) -> float:
    """Return the seconds since the lock was taken or renewed; 0 if it is free."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0


def take(path: Path, holder: dict[str, Any], instead_of: dict[str, Any] | None) -> dict[str, Any]:
    """
    Take the lock if it is free.

    Parameters
    ----------
    path : pathlib.Path
        The lock's file.
    holder : dict
        The run that takes it.
    instead_of : dict or None
        The holder whose lock may be taken over.

    Returns
    -------
    dict
        The holder after this call.
    """
    found = read(path)
    if found is not None and found != instead_of:
        return found
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(holder) + "\n")
    fresh.rename(path)
    return holder


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Exclude other processes between read and write; the kernel releases this at exit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["taken", "given_back", "read"], "required": True},
            "path": {"type": "path", "default": LOCK},
            "holder": {"type": "dict", "default": {}},
            "instead_of": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    options = module.params
    path = Path(options["path"])
    if module.check_mode or options["state"] == "read":
        module.exit_json(changed=False, holder=read(path), silent_seconds=silence(path))
    with alone(path):
        if options["state"] == "taken":
            holder = take(path, options["holder"], options["instead_of"])
        else:
            holder = read(path)
            if holder is not None and holder["id"] == options["holder"].get("id"):
                path.unlink()
                holder = None
        silent = silence(path)
    module.exit_json(changed=False, holder=holder, silent_seconds=silent)


if __name__ == "__main__":
    main()
