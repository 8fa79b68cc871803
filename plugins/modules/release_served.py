#!/usr/bin/python
"""Ansible module: see that visitors of a site get a certain release."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release_served
short_description: See that visitors get a release
description:
  - Asks the server's own nginx over TLS under each name, as a visitor would, for two things.
    Whether the link that nginx routes by leads to the release, which a file of the release's name
    behind that link tells, and not the app. And whether the app's health path answers below 500.
  - A name for which no certificate is there yet cannot be asked, and counts neither way. One name
    that is right is enough, since all of them lead the same way.
options:
  release:
    description: The release.
    type: str
    required: true
  domains:
    description: The site's names.
    type: list
    elements: str
    required: true
  port:
    description: Where nginx listens for HTTPS.
    type: int
    default: 443
  path:
    description: The app's health path.
    type: str
    default: /
  in_maintenance:
    description: Whether nginx answers in the app's stead.
    type: bool
    default: false
  seconds:
    description: How long answers may be wrong, since nginx may still read its configuration.
    type: float
    default: 10
author: flask-vps maintainers
notes:
  - Whether certificates are right is another question, so they are not verified.
"""

EXAMPLES = r"""
- name: See that visitors get the release
  release_served: {release: 0123456789ab, domains: [shop.test]}
"""

RETURN = r"""
asked:
  description: Names under which somebody answered.
  type: list
  elements: str
"""

MARK = "/.well-known/flask-vps-release/"


class UnreachableError(Exception):
    """Nobody can ask under this name yet."""


def ask(domain: str, port: int, path: str) -> int:
    """
    Ask this server as a visitor would.

    Parameters
    ----------
    domain : str
        The site's name.
    port : int
        Where nginx listens for HTTPS.
    path : str
        What to ask for.

    Returns
    -------
    int
        The status of the answer; 0 if there was none.

    Raises
    ------
    UnreachableError
        If nginx has no certificate for that name.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPConnection(domain, port, timeout=10)
    try:
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sock = context.wrap_socket(raw, server_hostname=domain)
        connection.request("GET", path, headers={"Host": domain, "Connection": "close"})
        return connection.getresponse().status
    except ssl.SSLError as error:
        raise UnreachableError(f"{domain}: {error.reason or error}") from None
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def problem(domain: str, port: int, release: str, path: str, in_maintenance: bool) -> str:
    """Say what is wrong with what visitors get under a name; empty if nothing is."""
    status = ask(domain, port, MARK + release)
    if status != 200:
        found = f"status {status}" if status else "no answer"
        return f"nginx does not route visitors of {domain} to release {release} ({found})"
    if in_maintenance:
        return ""
    status = ask(domain, port, path)
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
    Ask under all names once.

    Parameters
    ----------
    options : dict
        Those of the module.

    Returns
    -------
    asked : list of str
        Names that have a certificate.
    problems : list of str
        What is wrong, one for each of those that are.
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
