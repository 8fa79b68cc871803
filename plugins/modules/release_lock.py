#!/usr/bin/python
"""Documentation of the action release_lock: ansible-doc looks for it among the modules."""

DOCUMENTATION = r"""
module: release_lock
short_description: Let one run at a time change the releases of a server
description:
  - The lock is a file on the server. It names its holder, which is a run of C(ansible-playbook).
    The run renews the lock in the background until it ends.
  - A run that finds the lock taken fails, unless the holder certainly ended. A holder on the same
    controller is known to have ended when its process is gone; a holder elsewhere when it has not
    renewed the lock for 5 minutes.
options:
  state:
    description:
      - V(taken) takes the lock, or fails and says who has it.
      - V(given_back) removes the lock if this run has it.
      - V(read) says who has the lock.
      - V(broken) removes the lock, whoever has it.
    type: str
    choices: [taken, given_back, read, broken]
    required: true
  path:
    description: The lock's file on the server.
    type: str
    default: /opt/flask-vps/lock
  purpose:
    description: What this run does, as other runs will report it.
    type: str
    default: deploy
  renew_seconds:
    description: Time between two renewals, in seconds.
    type: float
    default: 20
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Take the lock
  release_lock:
    state: taken
    purpose: rollback
"""

RETURN = r"""
holder:
  description: The holder of the lock after this; null if it is free.
  type: dict
  returned: always
silent_seconds:
  description: Time since the lock was last taken or renewed, by the server's clock, in seconds.
  type: float
  returned: always
"""
