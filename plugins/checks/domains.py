"""Host names: what a certificate authority and nginx take, and what it is in ASCII."""

import ipaddress
import re
from typing import Any

from module_utils.app import ascii_domain

from checks.report import UNKNOWN, Finding

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Names of the documentation, which no public authority certifies: RFC 2606.
PLACEHOLDERS = re.compile(r"(^|[.@])example\.(com|net|org)$")
# Names that are not looked up in the public DNS: RFC 6761.
LOCAL = re.compile(r"(^|\.)(localhost|test|local|internal|home\.arpa)$")
LETSENCRYPT_NAMES = 100


def domain_error(domain: Any) -> tuple[str, str] | None:
    """
    Say what is wrong with a host name.

    Parameters
    ----------
    domain : Any
        What the inventory names as a domain.

    Returns
    -------
    tuple of (str, str) or None
        What is wrong and how to mend it; None for a good name.
    """
    if not isinstance(domain, str):
        return "is not text", "Write a host name, in quotes if need be"
    if not domain.strip():
        return "is empty", "Write a host name such as www.your-domain.net, or remove the entry"
    if re.search(r"\s", domain):
        return "holds white space or a line break", "Write each host name as an entry of its own"
    rules = (
        ("://", "names a scheme", "Write the host name alone, without https://"),
        ("/", "holds a path", "Write the host name alone, without / and what follows"),
        ("*", "is a wildcard, which needs validation over DNS (DNS-01)", "Name each host instead"),
        ("@", "holds an @", "Write the host name alone"),
    )
    for part, wrong, fix in rules:
        if part in domain:
            return wrong, fix
    if re.search(r":\d*$", domain) and domain.count(":") == 1:
        return "names a port", "Write the host name alone; proxy_https_port sets the port"
    try:
        ipaddress.ip_address(domain)
    except ValueError:
        return _name_error(domain)
    return "is an address", "Write a host name: certificates are made for names"


def _name_error(domain: str) -> tuple[str, str] | None:
    rule = "Use letters, digits and inner hyphens, with dots between the parts"
    try:
        name = ascii_domain(domain)
    except ValueError as error:
        return f"is not a valid international name ({error})", rule
    if name.endswith("."):
        return "ends with a dot", "Leave the last dot out"
    if len(name) > 253:
        return f"is longer than 253 characters ({len(name)})", "Use a shorter name"
    labels = name.split(".")
    for label in labels:
        if len(label) > 63:
            return "has a part longer than 63 characters", "Use a shorter name"
        if not LABEL.fullmatch(label):
            return f"has the part {label!r}, which no host name may have", rule
    if labels[-1].isdigit():
        return "ends with a number, as an address does", "Write a host name"
    if len(labels) == 1 and name != "localhost":
        return "has no dot", "Write the whole name, such as shop.your-domain.net"
    return None


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
        Whether a public authority is to certify the names.

    Returns
    -------
    list of Finding
        Problems, and none for good names.
    """
    domains = app.get("domains")
    if not isinstance(domains, list):
        return []
    if not domains:
        fix = "Name at least one host name that points to the server"
        return [Finding(where, "is an empty list", fix, domains)]
    found, seen = [], set()
    for domain in (d for d in domains if d is not UNKNOWN):
        if error := domain_error(domain):
            found.append(Finding(where, *error, domain))
            continue
        name = ascii_domain(domain)
        if name in seen:
            found.append(Finding(where, "is named twice", "Remove one of the two", domain))
        seen.add(name)
        if public_ca and PLACEHOLDERS.search(name):
            wrong = "is the documentation's name, for which nobody gets a certificate"
            found.append(Finding(where, wrong, "Write your own domain", domain))
        if public_ca and LOCAL.search(name):
            wrong = "is a local name, for which no public authority gives a certificate"
            found.append(
                Finding(where, wrong, "Write a public one, or set tls: selfsigned", domain)
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
        domains = app.get("domains")
        names = domains if isinstance(domains, list) else []
        for domain in {ascii_domain(d): d for d in names if not domain_error(d)}.values():
            owner = owners.setdefault(ascii_domain(domain), where)
            if owner != where:
                wrong = f"already belongs to {owner}"
                fix = "Each domain leads to one app: remove it from one of the two"
                found.append(Finding(f"{where}.domains", wrong, fix, domain))
    return found
