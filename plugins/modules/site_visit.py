#!/usr/bin/python
"""Documentation of the action site_visit: ansible-doc looks for it among the modules."""

DOCUMENTATION = r"""
module: site_visit
short_description: Visit each site over TLS, and report what is wrong with it
description:
  - Asks each site on the server itself, with its own name, and judges the certificate and the
    answer.
  - Can wait for certificates that are missing. It then wakes acme-companion, and ends as soon as
    all certificates are there or the authority has refused.
options:
  apps:
    description: Completed entries of C(apps). Those with C(state=absent) are left out.
    type: list
    elements: dict
    required: true
  port:
    description: HTTPS port of the server.
    type: int
    default: 443
  ca:
    description: The certificate authority, by its name or the URL of its ACME directory.
    type: str
    default: letsencrypt
  seconds:
    description: How long to wait for certificates, in seconds. V(0) looks once.
    type: float
    default: 0
  begun:
    description:
      - When this run began, by the server's clock, in seconds. acme-companion is not woken for
        domains announced since then, as it works on them already.
    type: float
    default: 0
  throwaway:
    description: Whether the authority is the test authority beside a throwaway server.
    type: bool
    default: false
  strict:
    description: Whether to fail when something is wrong.
    type: bool
    default: false
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Visit the sites, and wait for their certificates
  site_visit:
    apps: "{{ preflight_apps }}"
    seconds: 180
    strict: true
"""

RETURN = r"""
sites:
  description: What each site showed, and what was found.
  type: list
  elements: dict
  returned: always
wrong:
  description: What is wrong, and what to do about it.
  type: list
  elements: str
  returned: unless O(strict=true) made the task fail
cautions:
  description: What may become a problem.
  type: list
  elements: str
  returned: unless O(strict=true) made the task fail
"""
