"""What the edge needs to know about an app's site, derived from the entry of the app."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

# A name below a wildcard, for requests that need a whole host name.
SAMPLE = "any"
CHALLENGE = "/.well-known/acme-challenge"
# Characters that clients send in a path as they are: RFC 3986.
SAFE = "/:@!$&'()*+,;=~-._"


def is_wildcard(domain: str) -> bool:
    """Tell whether a domain stands for all names one level below another one."""
    return domain.startswith("*.")


def sample(domain: str) -> str:
    """Return a host name that belongs to a domain."""
    return f"{SAMPLE}{domain[1:]}" if is_wildcard(domain) else domain


def virtual_host(domain: str) -> str:
    """
    Return a domain as nginx-proxy takes it.

    A wildcard becomes a regular expression. With ``*.example.org`` some versions of nginx-proxy
    would also include the files of ``shop.example.org``, which that name matches as a pattern.
    https://github.com/nginx-proxy/nginx-proxy/pull/2649
    """
    if not is_wildcard(domain):
        return domain
    return rf"~^[^.]+{domain[1:].replace('.', '[.]')}$"


def file_name(domain: str) -> str:
    """Return the name of a domain's file in nginx-proxy's folder ``vhost.d``."""
    name = virtual_host(domain)
    if not is_wildcard(domain):
        return name
    # It only names a file. https://github.com/nginx-proxy/nginx-proxy/pull/2533
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def header_value(value: Any) -> str:
    """Write a header's value on one line, as HTTP requires."""
    return " ".join(line.strip() for line in str(value).strip().splitlines())


def quoted(text: str) -> str:
    """Write a text as a string of nginx's configuration; a dollar sign begins a variable there."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _literal(text: str) -> str:
    """Escape a text for a regular expression in a quoted string of nginx's configuration."""
    return "".join(
        character
        if re.fullmatch(r"[A-Za-z0-9/_-]", character)
        else "".join(f"\\x{byte:02x}" for byte in character.encode())
        for character in text
    )


def open_paths(health: str, paths: list[str]) -> str:
    """
    Write a regular expression for the requests that need no password.

    Parameters
    ----------
    health : str
        The health path, which is open itself but not what is below it. The front page is no such
        exception.
    paths : list of str
        Paths that are open with everything below them.

    Returns
    -------
    str
        It matches ``REQUEST PATH``: the target of the request as it was sent, and the path that
        nginx makes of it. Both must be open, because an app may read ``/closed/../open`` in
        another way than nginx.
    """
    found = []
    exact = health.partition("?")[0]
    if exact != "/":
        plain = unquote(exact)
        found.append(rf"{_literal(quote(plain, safe=SAFE))}(?:[?]\S*)? {_literal(plain)}")
    # Authorities ask over plain HTTP, but a proxy in front may forward that over HTTPS.
    for path in [*paths, CHALLENGE]:
        plain = unquote(path).rstrip("/")
        raw = _literal(quote(plain, safe=SAFE))
        found.append(rf"{raw}(?:[/?]\S*)? {_literal(plain)}(?:/.*)?")
    return f"(?s)^(?:{'|'.join(found)})$"


def site_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """
    Derive what the edge needs to know about a site.

    Parameters
    ----------
    entry : mapping
        A completed entry of ``apps`` with at least one domain.

    Returns
    -------
    dict of str to Any
        ``announced``: what the container that holds the host names tells the edge; ``host``: the
        main host name, the target of redirects; ``hosts``: all names as nginx-proxy
        takes them; ``files``: of ``vhost.d``, each with its ``name``, its ``template`` and nginx's
        variable for the ``host``; ``certificates``: base names of certificate files;
        ``certificate``: the one of all names, or nothing; ``headers``: of responses, quoted;
        ``hsts``: one of them, or nothing; ``names``: host names of the site without wildcards;
        ``open``: see `open_paths`; ``visits``: host names to request, each with the host ``to``
        which it redirects.
    """
    name, domains, redirects = entry["name"], entry["domains"], entry["redirect"]
    plain = [domain for domain in domains if not is_wildcard(domain)]
    host = plain[0] if plain else sample(domains[0])
    files = [
        {
            "name": file_name(domain) + end,
            "template": template,
            "host": "$host" if is_wildcard(domain) else "$server_name",
        }
        for domain in [*domains, *redirects]
        for end, template in (
            ("", "redirect" if domain in redirects else "server"),
            ("_location_override", "_location_override"),
        )
    ]
    headers = {str(key): header_value(value) for key, value in entry["headers"].items()}
    hsts = [v for k, v in headers.items() if k.lower() == "strict-transport-security"]
    # nginx-proxy finds no certificate for a regular expression, only one of a given name.
    shared = f"flask-vps-{name}" if len(plain) < len(domains) else ""
    hosts = [virtual_host(domain) for domain in [*domains, *redirects]]
    return {
        "announced": [hosts, hsts, shared],
        "certificate": shared,
        "certificates": [*plain, *redirects, *([shared] if shared else [])],
        "files": files,
        "headers": {key: quoted(value) for key, value in headers.items()},
        "host": host,
        "hosts": hosts,
        "hsts": hsts[0] if hsts else "",
        "names": plain or [host],
        "open": open_paths(entry["health"], [str(path) for path in entry["basic_auth_except"]]),
        "visits": [{"domain": sample(domain), "to": ""} for domain in domains]
        + [{"domain": domain, "to": host} for domain in redirects],
    }
