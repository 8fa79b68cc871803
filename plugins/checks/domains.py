"""Rules for host names that certificate authorities and nginx accept, and their ASCII form."""

import ipaddress
import re
from typing import Any

from module_utils.app import ascii_domain

from checks.report import UNKNOWN, Finding

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Names reserved for documentation, which no public authority certifies: RFC 2606.
PLACEHOLDERS = re.compile(r"(^|[.@])example\.(com|net|org)$")
# Names that are not looked up in the public DNS: RFC 6761.
LOCAL = re.compile(r"(^|\.)(localhost|test|local|internal|home\.arpa)$")
LETSENCRYPT_NAMES = 100


def domain_error(domain: Any) -> tuple[str, str] | None:
    """
    Check a host name.

    Parameters
    ----------
    domain : Any
        A domain as the inventory gives it.

    Returns
    -------
    tuple of (str, str) or None
        What is wrong and how to fix it; None for a valid name.
    """
    if not isinstance(domain, str):
        return "is not text", "Write a host name, in quotes if necessary"
    if not domain.strip():
        return "is empty", "Write a host name such as www.your-domain.net, or remove the entry"
    if re.search(r"\s", domain):
        return "contains white space or a line break", "Write each host name as an entry of its own"
    if domain.startswith("*.") and "*" not in domain[2:]:
        # The rules for `tls` say whether there can be a certificate for it.
        if "." not in domain[2:]:
            return "covers a whole top-level domain", "Write a wildcard such as *.your-domain.net"
        return domain_error(domain[2:])
    rules = (
        ("://", "contains a scheme", "Write the host name alone, without https://"),
        ("/", "contains a path", "Write the host name alone, without the first / and the rest"),
        ("*", "has a * that is not its whole first part", "Write *.HOST, or list each host"),
        ("@", "contains an @", "Write the host name alone"),
    )
    for part, wrong, fix in rules:
        if part in domain:
            return wrong, fix
    if re.search(r":\d*$", domain) and domain.count(":") == 1:
        return "contains a port", "Write the host name alone; proxy_https_port sets the port"
    try:
        ipaddress.ip_address(domain)
    except ValueError:
        return _name_error(domain)
    return "is an IP address", "Write a host name: certificates are issued for names"


def _name_error(domain: str) -> tuple[str, str] | None:
    rule = "Use letters, digits and inner hyphens, with dots between the parts"
    try:
        name = ascii_domain(domain)
    except ValueError as error:
        return f"is not a valid international name ({error})", rule
    if name.endswith("."):
        return "ends with a dot", "Remove the last dot"
    if len(name) > 253:
        return f"is longer than 253 characters ({len(name)})", "Use a shorter name"
    labels = name.split(".")
    for label in labels:
        if len(label) > 63:
            return "has a part longer than 63 characters", "Use a shorter name"
        if not LABEL.fullmatch(label):
            return f"has the invalid part {label!r}", rule
    if labels[-1].isdigit():
        return "ends with a number, like an IP address", "Write a host name"
    if len(labels) == 1 and name != "localhost":
        return "has no dot", "Write the full name, such as shop.your-domain.net"
    return None


def redirects(app: dict[str, Any]) -> list[Any]:
    """Return the domains that an entry redirects; works on entries that are not checked yet."""
    return app["redirect"] if isinstance(app.get("redirect"), list) else []


def check_domains(app: dict[str, Any], where: str, public_ca: bool) -> list[Finding]:
    """
    Check the domains of one app.

    Parameters
    ----------
    app : dict
        Entry of the app.
    where : str
        How a finding names the variable.
    public_ca : bool
        Whether the certificate comes from a public authority.

    Returns
    -------
    list of Finding
        Problems; empty for valid names.
    """
    domains = app.get("domains")
    if not isinstance(domains, list):
        return []
    if not domains:
        fix = "List at least one host name that points to the server"
        return [Finding(where, "is an empty list", fix, domains)]
    found, seen = [], set()
    for domain in (d for d in domains if d is not UNKNOWN):
        if error := domain_error(domain):
            found.append(Finding(where, *error, domain))
            continue
        name = ascii_domain(domain)
        if name in seen:
            found.append(Finding(where, "is listed twice", "Remove one of the two", domain))
        seen.add(name)
        if public_ca and PLACEHOLDERS.search(name):
            wrong = "is an example name, for which no public authority issues a certificate"
            found.append(Finding(where, wrong, "Write your own domain", domain))
        if public_ca and LOCAL.search(name):
            wrong = "is a local name, for which no public authority issues a certificate"
            found.append(
                Finding(where, wrong, "Use a public domain, or set tls: selfsigned", domain)
            )
    if public_ca and len(seen) > LETSENCRYPT_NAMES:
        wrong = f"has {len(seen)} names; a certificate holds at most {LETSENCRYPT_NAMES}"
        found.append(Finding(where, wrong, "Spread them over several apps"))
    return found


def shared_domains(apps: list[tuple[str, dict[str, Any]]]) -> list[Finding]:
    """Find domains that more than one app claims; `apps` are pairs of place and entry."""
    owners: dict[str, str] = {}
    found = []
    for where, app in apps:
        for key in ("domains", "redirect"):
            names = app.get(key) if isinstance(app.get(key), list) else []
            for domain in {ascii_domain(d): d for d in names if not domain_error(d)}.values():
                owner = owners.setdefault(ascii_domain(domain), where)
                if owner != where:
                    wrong = f"already belongs to {owner}"
                    fix = "Each domain belongs to one app: remove it from one of the two"
                    found.append(Finding(f"{where}.{key}", wrong, fix, domain))
    return found
