#!/usr/bin/python
"""Documentation of the action preflight: ansible-doc looks for it among the modules."""

DOCUMENTATION = r"""
module: preflight
short_description: Check the inventory and the server, and report every problem at once
description:
  - Computes every variable that the roles' argument specs name, looks at the server, and fails with
    a numbered list if anything is wrong. It changes nothing.
  - Without root it checks less of the server.
options:
  root_needed:
    description: Whether it is a problem that the user cannot become root.
    type: bool
    default: false
  server_checked:
    description: Whether to look at the server, and at certificates of your own.
    type: bool
    default: true
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Check the values and the server
  preflight:
    root_needed: true
"""

RETURN = r"""
preflight_apps:
  description: The apps that the run is about, each with a value for every key of its entry.
  type: list
  elements: dict
  returned: success
preflight_warnings:
  description: What does not keep a deployment from going on.
  type: list
  elements: str
  returned: success
"""
