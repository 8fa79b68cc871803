"""Rules for who may log in to a server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from module_utils.public_keys import public_keys

from checks.report import UNKNOWN, Finding, nearest

if TYPE_CHECKING:
    from checks.site import Site

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# Accounts of the system and of packages, which would get a shell and a key.
TAKEN = {
    *("root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp"),
    *("proxy", "www-data", "backup", "list", "irc", "nobody", "sshd", "messagebus", "postgres"),
    *("docker", "sudo", "systemd-network", "systemd-timesync", "_apt"),
}
MAKE_KEY = "Write the contents of a .pub file, or its path; `ssh-keygen -t ed25519` makes a pair"


def check_access(site: Site) -> list[Finding]:
    """Check the admins, their keys and the port of sshd."""
    found = []
    admins = site.get("access_admins", [])
    names = []
    for number, admin in enumerate(admins if isinstance(admins, list) else []):
        if admin is UNKNOWN:
            continue
        if not isinstance(admin, dict):
            fix = "Write it like {name: ada, keys: [~/.ssh/id_ed25519.pub]}"
            found.append(Finding(f"access_admins[{number}]", "is not an admin", fix, admin))
            continue
        name = admin.get("name", "")
        where = f"access_admins.{name if name and isinstance(name, str) else number}"
        for other in sorted(set(map(str, admin)) - {"name", "keys"}):
            near = nearest(other, ["name", "keys"])
            fix = f"Did you mean {near}?" if near else "Remove it"
            found.append(Finding(f"{where}.{other}", "is unknown", fix))
        found += _name(f"access_admins.{number}.name", name, names) + _keys(where, admin)
        names.append(name)
    for name in _list(site.get("access_other_users", [])):
        if name is not UNKNOWN and not NAME.fullmatch(str(name)):
            fix = "Write the name of a user of the server"
            found.append(Finding("access_other_users", "has an invalid user name", fix, name))
    port = site.get("access_port", 22)
    if re.fullmatch(r"-?\d+", str(port)):
        if not 1 <= int(port) <= 65535:
            found.append(Finding("access_port", "is not a valid port", "Choose 1 to 65535", port))
        for other, default in {"proxy_http_port": 80, "proxy_https_port": 443}.items():
            if str(port) == str(site.get(other, default)):
                fix = "Choose another port"
                found.append(Finding("access_port", f"is the same port as {other}", fix, port))
    return found


def _name(where: str, name: Any, names: list[Any]) -> list[Finding]:
    if name is UNKNOWN:
        return []
    if not NAME.fullmatch(str(name)):
        fix = "Use up to 32 lower case letters, digits, dashes and underscores"
        return [Finding(where, "is not a valid user name", fix, name)]
    if name in TAKEN:
        fix = "Choose a name of your own; this admin replaces root's login"
        return [Finding(where, "is an account of the system", fix, name)]
    if name in names:
        fix = "Give all keys of an admin in one entry"
        return [Finding(where, "is listed twice", fix, name)]
    return []


def _keys(where: str, admin: dict[str, Any]) -> list[Finding]:
    keys, found = admin.get("keys"), []
    if keys is UNKNOWN:
        return []
    if not keys:
        return [Finding(f"{where}.keys", "has no key, so nobody could log in", MAKE_KEY)]
    if not isinstance(keys, list):
        fix = f"Write it in brackets. {MAKE_KEY}"
        return [Finding(f"{where}.keys", "must be a list", fix)]
    for number, key in enumerate(keys):
        if key is UNKNOWN:
            continue
        place = f"{where}.keys[{number}]"
        try:
            public_keys(str(key))
        except OSError as error:
            wrong = f"names a file that cannot be read ({error.strerror})"
            found.append(Finding(place, wrong, MAKE_KEY, key))
        except ValueError as error:
            # A private key must not be shown.
            found.append(Finding(place, str(error), MAKE_KEY))
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
