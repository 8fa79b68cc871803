#!/usr/bin/python
"""Ansible module: see that visitors of a site get a certain release."""

from __future__ import annotations

import contextlib
import ssl
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_request import ask, connect, unverified

DOCUMENTATION = r"""
module: release_served
short_description: Check that visitors get a release
description:
  - Sends requests to the server's own nginx over TLS, as a visitor would, under each name of the
    site.
  - Checks that the link which nginx follows leads to the release. A file with the release's name
    behind that link proves it, and not the app's own answer.
  - Checks that the app's health path answers with a status below 500.
  - A name without a certificate is skipped. One right name is enough, because all names take the
    same way.
options:
  release:
    description: Id of the release.
    type: str
    required: true
  domains:
    description: Names of the site.
    type: list
    elements: str
    required: true
  port:
    description: HTTPS port of nginx.
    type: int
    default: 443
  path:
    description: The app's health path.
    type: str
    default: /
  in_maintenance:
    description: Whether nginx answers with the maintenance page instead of the app.
    type: bool
    default: false
  seconds:
    description:
      - How long answers may be wrong, in seconds, as nginx may not have read its configuration yet.
    type: float
    default: 10
author: flask-vps maintainers
notes:
  - Certificates are not verified here. M(site_visit) does that.
"""

EXAMPLES = r"""
- name: Check that visitors get the release
  release_served:
    release: 0123456789ab
    domains: [shop.example.org]
"""

RETURN = r"""
asked:
  description: Names under which the server answered.
  type: list
  elements: str
  returned: always
"""

MARK = "/.well-known/flask-vps-release/"


class UnreachableError(Exception):
    """The domain has no certificate yet."""


def status_of(domain: str, port: int, path: str) -> int:
    """
    Request a page of this server as a visitor would.

    Parameters
    ----------
    domain : str
        The site's name.
    port : int
        nginx's HTTPS port.
    path : str
        The path to request.

    Returns
    -------
    int
        The status of the answer; 0 if there was none.

    Raises
    ------
    UnreachableError
        If nginx refuses because it has no certificate for that name.
    """
    try:
        connection = connect(domain, port, unverified())
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        # Versions of OpenSSL differ in how they report a connection that was closed.
        return 0
    except ssl.SSLError as error:
        raise UnreachableError(f"{domain}: {error.reason or error}") from None
    except OSError:
        return 0
    with connection:
        try:
            return ask(connection, domain, port, path)
        except OSError:
            return 0


def problem(domain: str, port: int, release: str, path: str, in_maintenance: bool) -> str:
    """Describe what is wrong with the answers under a domain; empty if nothing is."""
    status = status_of(domain, port, MARK + release)
    if status != 200:
        found = f"status {status}" if status else "no answer"
        return f"nginx does not route visitors of {domain} to release {release} ({found})"
    if in_maintenance:
        return ""
    status = status_of(domain, port, path)
    if not status or status >= 500:
        found = f"status {status}" if status else "no answer"
        return f"visitors of https://{domain}{path} get {found}"
    return ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "domains": {"type": "list", "elements": "str", "required": True},
            "port": {"type": "int", "default": 443},
            "path": {"type": "str", "default": "/"},
            "in_maintenance": {"type": "bool", "default": False},
            "seconds": {"type": "float", "default": 10},
        },
    )
    options = module.params
    deadline = time.monotonic() + options["seconds"]
    while True:
        asked, problems = look(options)
        if len(problems) < len(asked) or not asked:
            module.exit_json(changed=False, asked=asked)
        if time.monotonic() > deadline:
            module.fail_json(msg="; ".join(problems), asked=asked)
        time.sleep(0.3)


def look(options: dict[str, Any]) -> tuple[list[str], list[str]]:
    """
    Request all domains once.

    Parameters
    ----------
    options : dict
        The module's options.

    Returns
    -------
    asked : list of str
        Domains that have a certificate.
    problems : list of str
        One text per domain with a problem.
    """
    asked, problems = [], []
    for domain in options["domains"]:
        with contextlib.suppress(UnreachableError):
            wrong = problem(
                domain,
                options["port"],
                options["release"],
                options["path"],
                options["in_maintenance"],
            )
            asked.append(domain)
            problems += [wrong] if wrong else []
    return asked, problems


if __name__ == "__main__":
    main()
