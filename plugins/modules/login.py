#!/usr/bin/python
"""Documentation of the action login: ansible-doc looks for it among the modules."""

DOCUMENTATION = r"""
module: login
short_description: Find out who can log in to a server
description:
  - Logs in over SSH as one user after another, on one port after another, with keys only and
    otherwise with the connection's own options. The first one who can run the command is returned.
  - Nothing is changed on the server.
options:
  users:
    description: Users to try, in this order.
    type: list
    elements: str
    required: true
  ports:
    description: Ports to try, in this order.
    type: list
    elements: int
    required: true
  command:
    description: Shell command that the user must be able to run.
    type: str
    default: "true"
  fresh:
    description: Whether to log in anew, instead of using a connection that is still open.
    type: bool
    default: false
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Log in as one of the admins
  login:
    users: [ada, grace]
    ports: [22]
    command: sudo -n true
    fresh: true
  register: found
"""

RETURN = r"""
user:
  description: The first user who could log in and run the command; empty if nobody could.
  type: str
  returned: always
port:
  description: The port on which that worked.
  type: int
  returned: always
errors:
  description: Why others could not, each with its user, port, error, and advice.
  type: list
  elements: dict
  returned: always
"""
