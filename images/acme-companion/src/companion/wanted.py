"""Read from the containers which certificates they ask for. Pure functions.

Variables: https://github.com/nginx-proxy/acme-companion/blob/main/docs/Environment-variables-reference.md
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dockergen.docker_api import environment_of

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
KEY_SIZES = ("2048", "3072", "4096", "8192", "ec-256", "ec-384", "ec-521")

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
# It names a folder too, so no slash.
_EMAIL = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*@[A-Za-z0-9.-]+")
_URI = re.compile(r"https://[A-Za-z0-9.:-]+(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?")


@dataclass(frozen=True)
class Wanted:
    """One certificate that containers ask for."""

    names: tuple[str, ...]
    email: str
    ca_uri: str
    key_size: str
    renew_after_days: int
    renew_key: bool
    eab: tuple[str, str] | None = None

    @property
    def base(self) -> str:
        """The first name, which names files and folders."""
        return self.names[0]

    @property
    def staging(self) -> bool:
        """Whether this is Let's Encrypt's staging service: its files are kept apart."""
        return self.ca_uri.startswith("https://acme-staging")

    @property
    def folder(self) -> str:
        """The folder below /etc/nginx/certs."""
        return f"_test_{self.base}" if self.staging else self.base

    @property
    def home(self) -> str:
        """acme.sh's configuration home below /etc/acme.sh: one an e-mail address."""
        return "staging" if self.staging else self.email or "default"

    @property
    def account_folder(self) -> str:
        """acme.sh's folder for this CA below its home: host, without port, then path."""
        host, _, path = self.ca_uri.removeprefix("https://").partition("/")
        # acme.sh cuts at colons: https://host:14000/dir is kept in ca/host/dir.
        return f"ca/{host.split(':')[0]}/{path}".rstrip("/")

    @property
    def domain_folder(self) -> str:
        """acme.sh's folder for this certificate below its home."""
        return self.base + ("_ecc" if self.key_size.startswith("ec-") else "")


def split_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list; spaces, empty items and trailing dots do not count.

    Raises
    ------
    ValueError
        If an item cannot be a name in a certificate got over HTTP-01.
    """
    names = [name.strip().rstrip(".").lower() for name in text.split(",")]
    for name in filter(None, names):
        if name.startswith("*."):
            raise ValueError(f"{name}: a wildcard needs DNS-01, which is not supported")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a host name")
    return tuple(dict.fromkeys(filter(None, names)))


def is_true(text: str) -> bool:
    """Tell whether a variable says yes, as upstream's scripts read it."""
    return text.strip() in ("true", "True", "TRUE", "1")


def _wanted_by(own: Mapping[str, str], default: Mapping[str, str]) -> list[Wanted]:
    """Read one container; ``default`` is the companion's own environment."""

    def get(*names: str) -> str:
        return next((own[n].strip() for n in names if own.get(n, "").strip()), "")

    names = split_names(get("ACME_HOST", "LETSENCRYPT_HOST"))
    if not names:
        return []
    if (get("ACME_CHALLENGE") or default.get("ACME_CHALLENGE") or "HTTP-01") != "HTTP-01":
        raise ValueError("ACME_CHALLENGE: only HTTP-01 is supported")
    email = get("ACME_EMAIL", "LETSENCRYPT_EMAIL") or default.get("DEFAULT_EMAIL", "").strip()
    if email and not _EMAIL.fullmatch(email):
        raise ValueError(f"{email!r} is not an e-mail address")
    ca_uri = get("ACME_CA_URI") or default.get("ACME_CA_URI", "").strip() or LETS_ENCRYPT
    if get("LETSENCRYPT_TEST").lower() == "true":
        ca_uri = LETS_ENCRYPT_STAGING
    if not _URI.fullmatch(ca_uri):
        raise ValueError(f"ACME_CA_URI={ca_uri!r} is not an https URL")
    key_size = get("ACME_KEYSIZE", "LETSENCRYPT_KEYSIZE")
    if key_size not in KEY_SIZES:
        key_size = default.get("DEFAULT_KEY_SIZE", "").strip() or "4096"
    if key_size not in KEY_SIZES:
        raise ValueError(f"key size {key_size!r}: supported are {', '.join(KEY_SIZES)}")
    days = get("ACME_RENEW_AFTER") or default.get("ACME_RENEW_AFTER", "").strip() or "60"
    if not re.fullmatch(r"[1-9][0-9]{0,3}", days):
        raise ValueError(f"ACME_RENEW_AFTER={days!r} is not a number of days")
    renew_key = get("ACME_RENEW_PRIVATE_KEYS") or default.get("RENEW_PRIVATE_KEYS", "")
    eab = get("ACME_EAB_KID"), get("ACME_EAB_HMAC_KEY")
    if not all(eab):
        eab = default.get("ACME_EAB_KID", ""), default.get("ACME_EAB_HMAC_KEY", "")
    if not all(re.fullmatch(r"[A-Za-z0-9_=-]*", value) for value in eab):
        raise ValueError("ACME_EAB_KID or ACME_EAB_HMAC_KEY is not base64url")  # not the value
    wanted = Wanted(
        names=names,
        email="" if ca_uri.startswith("https://acme-staging") else email,
        ca_uri=ca_uri,
        key_size=key_size,
        renew_after_days=int(days),
        renew_key=renew_key.strip().lower() != "false",
        eab=eab if all(eab) else None,
    )
    if is_true(get("ACME_SINGLE_DOMAIN_CERTS", "LETSENCRYPT_SINGLE_DOMAIN_CERTS")):
        return [replace(wanted, names=(name,)) for name in names]
    return [wanted]


def read_wanted(
    containers: Iterable[Mapping[str, Any]], default: Mapping[str, str]
) -> tuple[list[Wanted], list[str]]:
    """Read what all containers ask for.

    Parameters
    ----------
    containers : iterable of dict
        Docker's inspect answers, newest first.
    default : dict
        The companion's own environment.

    Returns
    -------
    list of Wanted
        One a base name. Containers of one base share one certificate with all their names,
        with the newest one's settings: during a deploy the old and the new release may ask
        for different names, and taking turns would use up the CA's rate limit.
    list of str
        Why containers were left out, one line each.
    """
    found: dict[str, Wanted] = {}
    problems = []
    for container in containers:
        try:
            for wanted in _wanted_by(environment_of(container), default):
                first = found.setdefault(wanted.base, wanted)
                names = tuple(dict.fromkeys(first.names + wanted.names))
                found[wanted.base] = replace(first, names=names)
        except ValueError as error:
            problems.append(f"{container['Name'].lstrip('/')}: {error}; left out")
    return list(found.values()), problems
