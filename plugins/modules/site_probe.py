#!/usr/bin/python
"""Ansible module: request each site over TLS on the server itself, as a visitor would."""

from __future__ import annotations

import base64
import calendar
import concurrent.futures
import re
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.names import Names
from ansible.module_utils.site_request import answer, connect, unverified

DOCUMENTATION = r"""
module: site_probe
short_description: Request a page of each site over TLS
description:
  - Connects to the server's own HTTPS port with the name of each site, keeps the certificates that
    are shown, verifies them with the server's list of authorities, and requests one page.
  - Reads the log of acme-companion, and can wake it. Changes nothing else.
  - The action M(site_visit) calls this module and judges the answers.
options:
  sites:
    description: The sites, each with C(app), C(domain) and C(path).
    type: list
    elements: dict
    required: true
  port:
    description: HTTPS port of the server.
    type: int
    default: 443
  companion:
    description: Name of acme-companion's container.
    type: str
    default: edge-acme-companion-1
  wake:
    description: Whether to wake acme-companion, which then requests missing certificates at once.
    type: bool
    default: false
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Request a page of a site
  site_probe:
    sites:
      - app: shop
        domain: shop.example.org
        path: /
"""

RETURN = r"""
visits:
  description: What each site showed.
  type: list
  elements: dict
  returned: always
companion:
  description: State and log of acme-companion.
  type: dict
  returned: always
announced:
  description: When the names of each app were announced, by the server's clock, in seconds.
  type: dict
  returned: always
now:
  description: The server's clock, in seconds since 1970.
  type: float
  returned: always
"""

LOG_LINES = "4000"
MAINTENANCE = "flask-vps-{}.maintenance"


def shown_chain(connection: ssl.SSLSocket) -> list[bytes]:
    """
    Read the certificates that a server sent.

    Parameters
    ----------
    connection : ssl.SSLSocket
        An open connection.

    Returns
    -------
    list of bytes
        In DER, the leaf first. Only the leaf if this Python version has no access to the others.
    """
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    inner = getattr(connection, "_sslobj", None)
    if hasattr(inner, "get_unverified_chain"):  # since 3.10 without the public method
        return [
            ssl.PEM_cert_to_DER_cert(certificate.public_bytes())
            for certificate in inner.get_unverified_chain() or []
        ]
    leaf = connection.getpeercert(binary_form=True)
    return [leaf] if leaf else []


def has_authorities(context: ssl.SSLContext) -> bool:
    """Tell whether this machine has any list of authorities to verify with."""
    if context.cert_store_stats()["x509_ca"]:
        return True
    folder = ssl.get_default_verify_paths().capath
    return bool(folder and any(Path(folder).glob("*.0")))


def visit(domain: str, port: int, path: str) -> dict[str, Any]:
    """
    Visit one site.

    Parameters
    ----------
    domain, path : str
        Domain and path to request.
    port : int
        HTTPS port.

    Returns
    -------
    dict
        ``reached``: whether the port is open; ``refused``: why the handshake failed, or empty;
        ``chain``: the certificates in DER and base64; ``verified``: whether this machine trusts
        them for that name, None if it cannot tell; ``verify_code`` and ``verify_message``:
        OpenSSL's reason; ``status``: of the HTTP answer, 0 if there is none; ``location``: where it
        redirects; ``answer_error``.
    """
    found: dict[str, Any] = {
        "reached": False, "refused": "", "chain": [], "verified": None,
        "verify_code": 0, "verify_message": "", "status": 0, "location": "",
        "answer_error": "",
    }  # fmt: skip
    try:
        with connect(domain, port, unverified()) as connection:
            found["reached"] = True
            found["chain"] = [base64.b64encode(c).decode() for c in shown_chain(connection)]
            try:
                found["status"], found["location"] = answer(connection, domain, port, path)
            except OSError as error:
                found["answer_error"] = str(error)
    except (ConnectionResetError, ssl.SSLError) as error:
        found.update(reached=True, refused=_reason(error))
        return found
    except OSError as error:
        found["refused"] = error.strerror or str(error)
        return found
    strict = ssl.create_default_context()
    # On by default since Python 3.13, but stricter than browsers.
    strict.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not has_authorities(strict):
        return found
    try:
        with connect(domain, port, strict):
            found["verified"] = True
    except ssl.SSLCertVerificationError as error:
        found.update(
            verified=False, verify_code=error.verify_code, verify_message=error.verify_message
        )
    except OSError as error:
        found.update(verified=False, verify_message=_reason(error))
    return found


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()


def docker(*arguments: str) -> tuple[int, str]:
    """Run the command line of Docker; return its status, and what it printed in order of time."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout


def wake(container: str) -> str:
    """
    Make the companion try at once.

    Parameters
    ----------
    container : str
        Its container's name.

    Returns
    -------
    str
        The error; empty on success.
    """
    code, output = docker("inspect", "--format", "{{.State.Running}}", container)
    if code or output.strip() != "true":
        # It was stopped on purpose, so it stays stopped.
        return "it does not run"
    code, output = docker("exec", container, "test", "-x", "/app/signal_le_service")
    if code == 0:
        code, output = docker("exec", container, "/app/signal_le_service")
    if code:
        # Older images lack that program; a restart also makes the companion look.
        code, output = docker("restart", "--time", "5", container)
    return " ".join(output.split()) if code else ""


def seconds(time_of_docker: str) -> float:
    """Read a time of Docker's, such as 2026-11-29T14:23:53.1Z, as seconds; 0 if there is none."""
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", time_of_docker)
    if not match or match[1] == "0001":
        return 0.0
    return float(calendar.timegm(tuple(map(int, match.groups()))))


def announced(apps: set[str]) -> dict[str, float]:
    """Return when the container that announces each app's domains started, in seconds."""
    found = dict.fromkeys(apps, 0.0)
    projects = {Names(app).domains_project: app for app in apps}
    label = '{{index .Config.Labels "com.docker.compose.project"}} {{.State.StartedAt}}'
    code, ids = docker("ps", "--quiet", "--filter", "label=com.docker.compose.project")
    if code or not ids.split():
        return found
    _, lines = docker("inspect", "--format", label, *ids.split())
    for line in lines.splitlines():
        project, _, started = line.partition(" ")
        app = projects.get(project)
        if app:
            found[app] = max(found[app], seconds(started))
    return found


def in_maintenance(app: str, folder: Path) -> bool:
    """Tell whether nginx answers with the maintenance page."""
    try:
        return "deny all" in (folder / MAINTENANCE.format(app)).read_text()
    except OSError:
        return False


def companion(container: str) -> dict[str, Any]:
    """Read the companion's state and the end of its log."""
    code, state = docker("inspect", "--format", "{{.State.Status}}", container)
    _, log = (
        docker("logs", "--timestamps", "--tail", LOG_LINES, container) if code == 0 else (1, "")
    )
    return {"state": "" if code else state.strip(), "log": log}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "sites": {"type": "list", "elements": "dict", "required": True},
            "port": {"type": "int", "default": 443},
            "companion": {"type": "str", "default": "edge-acme-companion-1"},
            "wake": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    now, trouble = time.time(), ""
    if options["wake"] and not module.check_mode:
        trouble = wake(options["companion"])
    code, mount = docker("volume", "inspect", "--format", "{{.Mountpoint}}", "edge_conf")
    conf = Path(mount.strip()) if code == 0 else Path("/nonexistent")
    sites = options["sites"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = pool.map(lambda s: visit(s["domain"], options["port"], s["path"]), sites)
        visits = [
            {**site, **found, "maintenance": in_maintenance(site["app"], conf)}
            for site, found in zip(sites, asked, strict=True)
        ]
    module.exit_json(
        changed=False,
        visits=visits,
        companion={**companion(options["companion"]), "wake_error": trouble},
        announced=announced({site["app"] for site in sites}),
        now=now,
    )


if __name__ == "__main__":
    main()
