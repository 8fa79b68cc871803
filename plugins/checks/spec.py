"""Compare the names and types of an inventory's variables with the roles' argument specs."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

from checks.report import HIDDEN, UNKNOWN, Finding, nearest, show, shown_unless_secret

# Old name to new name. An old name that a role still has is not reported.
RENAMED = {
    "app_build_ca_bundle": "build_ca_bundle",
    "app_build_network": "build_network",
    "app_build_pip_index_url": "build_pip_index_url",
    "app_tls": "tls",
    "images_build_network": "build_network",
    "images_registry_logins": "vault_registry_logins",
    "proxy_acme_ca": "acme_ca",
    "proxy_acme_ca_uri": "acme_ca",
    "proxy_acme_ca_bundle": "acme_ca_bundle",
    "proxy_acme_eab": "vault_acme_eab",
    "proxy_acme_email": "acme_email",
}
TRUE_FALSE = {"y", "yes", "on", "1", "true", "t", "1.0", "n", "no", "off", "0", "false", "f", "0.0"}
# Facts that roles set, which stay if one run imports several playbooks.
ROLE_FACTS = {"docker_health_pace", "images_names", "preflight_apps", "preflight_pythons"}
SITE_PREFIXES = ("acme_", "tls_", "build_", "vault_", "apps_")


def type_error(option: dict[str, Any], value: Any, secret: bool = False) -> tuple[str, str] | None:
    """
    Check a value against the type of an option, accepting what Ansible would convert.

    Parameters
    ----------
    option : dict
        An option of an argument spec.
    value : Any
        The inventory's value.
    secret : bool, optional
        Whether the result must not quote the value.

    Returns
    -------
    tuple of (str, str) or None
        What is wrong and how to fix it; None when the value fits.
    """
    if value is UNKNOWN:
        return None
    kind = option.get("type", "str")
    choices = option.get("choices")
    if kind in ("str", "path"):
        if value is None:
            return "is empty", "Write a value, or remove the line"
        if isinstance(value, dict | list):
            return "is not text", "Write one value"
        if isinstance(value, bool) and not choices:
            return "is a boolean in YAML, not text", "Put it in quotes"
    elif kind == "int" and not _is_int(value):
        return "is not a whole number", "Write a number, without a unit"
    elif kind == "bool" and not isinstance(value, bool) and str(value).lower() not in TRUE_FALSE:
        return "is neither true nor false", "Write true or false"
    elif kind == "dict" and not isinstance(value, dict):
        return "must be a dictionary", "Write lines of the form `name: value` below it"
    elif kind == "list":
        if not isinstance(value, list):
            shown = "..." if secret else show(value).strip("'")
            return "must be a list", f"Write it in brackets: [{shown}]"
        each = {"type": option.get("elements", "raw"), "choices": choices}
        for element in value:
            if error := type_error(each, element, secret):
                shown = "" if secret else f" ({show(element)})"
                return f"has an entry that {error[0]}{shown}", error[1]
        return None
    if choices and value not in choices and str(value) not in map(str, choices):
        near = nearest(str(value), map(str, choices))
        hint = f"Did you mean {near}? " if near else ""
        return "is not one of the choices", f"{hint}Choose {' or '.join(map(str, choices))}"
    return None


def _is_int(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or bool(re.fullmatch(r"\s*[+-]?\d+\s*", str(value)))


def check_names(
    given: dict[str, Any], known: dict[str, dict[str, Any]], roles: Iterable[str]
) -> list[Finding]:
    """
    Find variables that no role knows.

    Operators may have their own variables, so a name is reported only if it has the prefix of a
    role, or is similar to a known name.

    Parameters
    ----------
    given : dict
        The inventory's variables by name, not computed.
    known : dict
        The options of all roles and of the inventory, by name.
    roles : iterable of str
        Names of the roles.

    Returns
    -------
    list of Finding
        Unknown and renamed variables.
    """
    prefixes = (*(f"{role}_" for role in roles), *SITE_PREFIXES)
    found = []
    for name in sorted(set(given) - set(known) - ROLE_FACTS):
        if name.startswith("_") or _is_own_secret(name, given):
            continue
        if name in RENAMED:
            new = RENAMED[name]
            shown = shown_unless_secret(name, given[name])
            found.append(Finding(name, f"is now called {new}", f"Rename it to {new}", shown))
            continue
        near = nearest(name, known)
        if name.startswith(prefixes) or (near and _alike(name, near)):
            hint = f"Did you mean {near}? " if near else ""
            fix = f"{hint}The READMEs of the roles list all variables"
            shown = shown_unless_secret(name, given[name])
            found.append(Finding(name, "is an unknown variable", fix, shown))
    return found


def _is_own_secret(name: str, given: dict[str, Any]) -> bool:
    """Tell whether a secret of the operator's own is used by another variable, such as ``apps``."""
    if not name.startswith("vault_"):
        return False
    use = re.compile(rf"\{{[{{%][^}}]*\b{re.escape(name)}\b")
    return any(use.search(repr(value)) for other, value in given.items() if other != name)


def _alike(name: str, near: str) -> bool:
    # Five of six letters agree: "image_source", "acme_mail", "postgress_memory_mb".
    return SequenceMatcher(None, name.lower(), near).ratio() >= 0.84


def check_types(given: dict[str, Any], known: dict[str, dict[str, Any]]) -> list[Finding]:
    """Check each variable that the inventory sets against its option's type and choices."""
    found = []
    for name, value in sorted(given.items()):
        option = known.get(name)
        secret = shown_unless_secret(name, value) is HIDDEN
        if option and (error := type_error(option, value, secret)):
            found.append(Finding(name, *error, shown_unless_secret(name, value)))
    return found
