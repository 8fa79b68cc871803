"""Rules for the settings of a site at the edge: redirects, wildcards, logins, headers, nginx."""

import datetime
import re
from typing import Any

from module_utils.app import setting
from module_utils.site import header_value, is_wildcard

from checks.domains import ascii_domain, check_domains, domain_error
from checks.report import UNKNOWN, Finding, nearest

USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
# What nginx understands, with the crypt() of every image: bcrypt, SHA-2, Apache's MD5, salted SHA.
HASH = re.compile(
    r"\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}"
    r"|\$5\$(rounds=\d+\$)?[^$:\s]{1,16}\$[./A-Za-z0-9]{43}"
    r"|\$6\$(rounds=\d+\$)?[^$:\s]{1,16}\$[./A-Za-z0-9]{86}"
    r"|\$apr1\$[^$:\s]{1,8}\$[./A-Za-z0-9]{22}"
    r"|\{SSHA\}[A-Za-z0-9+/]{28,}={0,2}"
)
# About 50 ms for each request.
COSTLY = 10
MAKE_HASH = "Make a hash with `openssl passwd -6`"
PATH = re.compile(r"/[!-~]*")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
# Headers that nginx or the app must make itself, because they describe one response.
OF_ONE_RESPONSE = {
    *("accept-ranges", "age", "connection", "content-encoding", "content-length", "content-range"),
    *("content-type", "date", "etag", "keep-alive", "last-modified", "location", "retry-after"),
    *("server", "set-cookie", "status", "te", "trailer", "transfer-encoding", "upgrade", "vary"),
    *("www-authenticate", "proxy-authenticate"),
}
_BLOCK = (
    "has a block that cannot be part of a server block",
    "Write only what nginx allows inside `server`",
)
# What would break the site's file, or have another effect than it seems.
NOT_IN_SERVER = {
    **dict.fromkeys(("server", "http", "events", "upstream", "map", "geo"), _BLOCK),
    "client_max_body_size": ("has client_max_body_size, which is set already", "Use upload_mb"),
    "return": (
        "has a `return` for all requests, also for those by which a deploy checks itself",
        "Put it into a `location`, or use redirect",
    ),
    "server_tokens": ("has server_tokens, which is off already", "Remove it"),
}
HSTS = re.compile(r"max-age=\d+(; ?(includeSubDomains|preload))*;?", re.IGNORECASE)


def check_settings(app: dict[str, Any], where: str, tls: str, public_ca: bool) -> list[Finding]:
    """
    Check the keys of an entry that affect only the edge.

    Parameters
    ----------
    app : dict
        The entry.
    where : str
        How a finding names it.
    tls : str
        The ``tls`` of entries that do not set it.
    public_ca : bool
        Whether the app's certificate comes from a public authority.

    Returns
    -------
    list of Finding
        Problems and warnings, none of which has a secret.
    """
    app = {key: value for key, value in app.items() if value is not UNKNOWN}
    found = _wildcards(app, where, str(app.get("tls") or tls))
    found += _redirects(app, where, public_ca)
    found += _users(app, where) + _exceptions(app, where)
    found += _headers(app, where) + _nginx(app, where)
    return found


def _names(app: dict[str, Any], key: str) -> list[str]:
    names = app.get(key)
    return [n for n in names if not domain_error(n)] if isinstance(names, list) else []


def _wildcards(app: dict[str, Any], where: str, tls: str) -> list[Finding]:
    if tls == "own":
        return []
    wrong = f"is a wildcard, for which tls: {tls} gets no certificate"
    fix = "Set tls: own with a wildcard certificate of yours, or list each host"
    return [
        Finding(f"{where}.domains", wrong, fix, name)
        for name in _names(app, "domains")
        if is_wildcard(name)
    ]


def _redirects(app: dict[str, Any], where: str, public_ca: bool) -> list[Finding]:
    spot = f"{where}.redirect"
    if not isinstance(app.get("redirect"), list) or not app["redirect"]:
        return []
    found = check_domains({"domains": app["redirect"]}, spot, public_ca)
    domains = [ascii_domain(name) for name in _names(app, "domains")]
    if domains and all(is_wildcard(name) for name in domains):
        fix = "Put the host that visitors are sent to into domains"
        found.append(Finding(spot, "has no target: domains has only wildcards", fix))
    for name in _names(app, "redirect"):
        if is_wildcard(name):
            wrong, fix = "is a wildcard, which cannot be redirected", "List each host instead"
            found.append(Finding(spot, wrong, fix, name))
        elif ascii_domain(name) in domains:
            fix = "Remove it from domains to redirect it, or from redirect to serve it"
            found.append(Finding(spot, "is also one of the app's domains", fix, name))
    return found


def _users(app: dict[str, Any], where: str) -> list[Finding]:
    users, spot, found = app.get("basic_auth"), f"{where}.basic_auth", []
    if isinstance(users, dict):
        fix = f"Write a list of names, and put the hashes into {vault_place(where)}"
        return [Finding(spot, "has more than the names of users", fix)]
    for user in users if isinstance(users, list) else []:
        if user is UNKNOWN:
            continue
        if isinstance(user, int | float) and not isinstance(user, bool):
            wrong = "has a number as the name of a user"
            found.append(Finding(spot, wrong, "Put the name in quotes"))
        elif isinstance(user, str) and re.match(r"[^:]*:.*\$", user):
            wrong = "has the hash of a password beside a name"
            fix = f"Write names only, and put the hashes into {vault_place(where)}"
            found.append(Finding(spot, wrong, fix))
        elif isinstance(user, str) and not USER.fullmatch(user):
            fix = "Use letters, digits, and . _ @ + - inside"
            found.append(Finding(spot, "has a user whose name is not valid", fix))
    if isinstance(users, list) and len(users) != len({str(user) for user in users}):
        found.append(Finding(spot, "names a user twice", "Remove one of the two"))
    if users and str(setting(app, "health")) == "/":
        wrong = "needs a password for every page, because `health` is the front page"
        fix = "Set health to a path of its own if a monitor must reach the app without a password"
        found.append(Finding(spot, wrong, fix, warning=True))
    return found


def _exceptions(app: dict[str, Any], where: str) -> list[Finding]:
    paths, spot, found = app.get("basic_auth_except"), f"{where}.basic_auth_except", []
    for path in paths if isinstance(paths, list) else []:
        if not isinstance(path, str):
            continue  # reported by its type
        if not PATH.fullmatch(path) or re.search(r"[?#*\"'\\]|//|/\.\.?(/|$)", path):
            fix = "Write a path that starts with /, such as /api; what is below it is open too"
            found.append(Finding(spot, "is not a valid path", fix, path))
        elif path == "/":
            wrong, fix = "would open the whole site", "Remove it, or remove basic_auth"
            found.append(Finding(spot, wrong, fix, path))
    if paths and not app.get("basic_auth"):
        fix = "Remove it, or list users in basic_auth"
        found.append(Finding(spot, "has no effect without basic_auth", fix, paths, warning=True))
    return found


def _headers(app: dict[str, Any], where: str) -> list[Finding]:
    headers, found, seen = app.get("headers"), [], set()
    for name, value in headers.items() if isinstance(headers, dict) else ():
        spot = f"{where}.headers.{name}"
        if not isinstance(name, str) or not HEADER.fullmatch(name):
            fix = "Use letters, digits and hyphens, such as X-Frame-Options"
            found.append(Finding(spot, "is not a valid name of a header", fix))
        elif name.lower() in OF_ONE_RESPONSE or name.lower().startswith("x-accel-"):
            fix = "Let the app send it"
            found.append(Finding(spot, "differs from response to response", fix))
        elif name.lower() in seen:
            fix = "Write it once; upper and lower case mean the same"
            found.append(Finding(spot, "is listed twice", fix))
        elif value is not UNKNOWN and (error := _value_error(name, value)):
            found.append(Finding(spot, *error, value))
        seen.add(str(name).lower())
    return found


def _value_error(name: str, value: Any) -> tuple[str, str] | None:
    if value is None or value == "":
        return "is empty", "Write a value, or remove the line"
    if isinstance(value, bool | float | dict | list | datetime.date):
        kind = type(value).__name__
        return f"is not text but {kind} in YAML", "Put the value in quotes"
    text = header_value(value)
    if not re.fullmatch(r"[ -~]+", text):
        return "has characters other than ASCII", "Use printable ASCII characters"
    if "$" in text:
        return "contains $, which nginx would replace", "Let the app send this header"
    if name.lower() == "strict-transport-security" and not HSTS.fullmatch(text):
        fix = "Write it like max-age=63072000; includeSubDomains; preload"
        return "is not a valid value", fix
    return None


def _nginx(app: dict[str, Any], where: str) -> list[Finding]:
    lines = app.get("nginx")
    if not isinstance(lines, str) or not lines.strip():
        return []
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", lines.replace("\r\n", "\n")):
        fix = "Remove the character"
        return [Finding(f"{where}.nginx", "contains a control character", fix)]
    found = []
    for directive in dict.fromkeys(top_directives(lines)):
        name, _, rest = directive.partition(" ")
        error = NOT_IN_SERVER.get(name)
        if name == "location" and rest == "/":
            error = (
                "has a `location /`, which is that of the app",
                "Write the lines without it, as part of the server block, or for a path below /",
            )
        if error:
            found.append(Finding(f"{where}.nginx", *error))
    return found


def top_directives(lines: str) -> list[str]:
    """List the directives of a text that are in no block, without quoted strings."""
    plain = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'|(?m:(?<=\s)#.*$|^#.*$)', " ", lines)
    depth, word, found = 0, "", []
    for character in plain:
        if depth == 0 and character in ";{":
            found.append(" ".join(word.split()))
            word = ""
        elif depth == 0:
            word += character
        depth += {"{": 1, "}": -1}.get(character, 0)
    return found


def vault_place(where: str) -> str:
    """Name the variable that holds the hashes of an app."""
    return f"vault_basic_auth.{where.removeprefix('apps.')}"


def check_logins(apps: list[tuple[str, dict[str, Any]]], given: Any) -> list[Finding]:
    """
    Check the hashes of passwords.

    Parameters
    ----------
    apps : list of tuple
        Place and entry of each app.
    given : Any
        What ``vault_basic_auth`` holds.

    Returns
    -------
    list of Finding
        Problems and warnings, none of which has a hash.
    """
    if given is UNKNOWN:
        return []
    if not isinstance(given, dict | None):
        return []  # reported by its type
    found = []
    for where, app in apps:
        users = app.get("basic_auth")
        if (
            users in (None, [])
            and isinstance(app.get("name"), str)
            and (given or {}).get(app["name"])
        ):
            wrong = f"has no effect: everybody sees the site, because {where}.basic_auth is empty"
            fix = "List the users there, or remove the hashes"
            found.append(Finding(vault_place(where), wrong, fix, warning=True))
        if not isinstance(users, list) or not users or not isinstance(app.get("name"), str):
            continue
        hashes, spot = (given or {}).get(app["name"]), vault_place(where)
        if hashes is UNKNOWN:
            continue
        if hashes is not None and not isinstance(hashes, dict):
            fix = "Write one line per user: NAME: hash of the password"
            found.append(Finding(spot, "must be a dictionary", fix))
            continue
        known = {str(name): value for name, value in (hashes or {}).items()}
        for user in users:
            if isinstance(user, str) and USER.fullmatch(user):
                found += _hash(known.get(user), f"{spot}.{user}", user in known, list(known))
    return found


def _hash(value: Any, spot: str, is_there: bool, known: list[str]) -> list[Finding]:
    if value is UNKNOWN:
        return []
    if value is None or value == "":
        near = "" if is_there else nearest(spot.rpartition(".")[2], known)
        hint = f"Did you mean {near}? " if near else ""
        return [Finding(spot, "is missing", f"{hint}{MAKE_HASH}")]
    match = HASH.fullmatch(value) if isinstance(value, str) else None
    if not match:
        wrong = "is not the hash of a password that nginx understands"
        return [Finding(spot, wrong, f"{MAKE_HASH}; put it in single quotes")]
    if int(match["cost"] or 0) >= COSTLY:
        wrong = f"takes nginx a long time at every request (bcrypt with cost {int(match['cost'])})"
        return [Finding(spot, wrong, f"{MAKE_HASH}, which is fast enough", warning=True)]
    return []
