"""Rules for the keys of an app's database: address, extensions, locale and version."""

import re
from collections.abc import Iterable
from typing import Any

from module_utils.app import App, has_postgres, setting
from module_utils.postgres_settings import (
    ALSO_CALLED,
    DEBIAN_MAJOR,
    ICU_LOCALE,
    INCLUDED,
    PACKAGES,
    PLAIN_LOCALES,
    icu_locale,
)

from checks.report import UNKNOWN, Finding, nearest

SCHEME = re.compile(r"[a-z][a-z0-9]*(\+[a-z][a-z0-9_]*)?")
SCHEMES = {"postgres": ("postgres", "postgresql"), "sqlite": ("sqlite",)}
# What a connection needs at least, in MiB.
CONNECTION_MB = 2
# As many as a database allows in any case.
FEW_CONNECTIONS = 50


def check_database(app: dict[str, Any], where: str) -> list[Finding]:
    """Check the keys of one entry that are about its database."""
    found = []
    for key in ("extensions", "locale", "postgres_version"):
        if app.get(key) not in (None, "", []) and not has_postgres(app):
            wrong = "has no effect without database: postgres"
            found.append(Finding(f"{where}.{key}", wrong, "Remove it", app[key], warning=True))
    found += _scheme(app, f"{where}.database_url_scheme")
    extensions = app.get("extensions")
    for name in extensions if isinstance(extensions, list) else []:
        if isinstance(name, str) and name not in INCLUDED and name not in PACKAGES:
            near = ALSO_CALLED.get(name) or nearest(name, {*INCLUDED, *PACKAGES})
            hint = f"Did you mean {near}? " if near else ""
            fix = f"{hint}For another one, set postgres_image to an image that has it"
            wrong = "is an extension that neither Postgres nor Debian has"
            found.append(Finding(f"{where}.extensions", wrong, fix, name))
    locale = app.get("locale")
    if isinstance(locale, str) and locale not in PLAIN_LOCALES:
        tag = icu_locale(locale)
        if not ICU_LOCALE.fullmatch(tag):
            plain = tag.partition(".")[0]
            write = plain if ICU_LOCALE.fullmatch(plain) else "de-DE"
            wrong = "is not a language tag; the image has no locales of the system"
            fix = f"Write it as ICU does, such as {write} or de-x-icu"
            found.append(Finding(f"{where}.locale", wrong, fix, locale))
    return found


def _scheme(app: dict[str, Any], spot: str) -> list[Finding]:
    scheme, database = app.get("database_url_scheme"), str(setting(app, "database"))
    if not isinstance(scheme, str) or not scheme:
        return []
    if database not in SCHEMES:
        wrong = "has no effect, because DATABASE_URL is not made here"
        return [Finding(spot, wrong, "Remove it", scheme, warning=True)]
    names = SCHEMES[database]
    if not SCHEME.fullmatch(scheme):
        plain = scheme.partition(":")[0]
        fix = f"Write {plain if SCHEME.fullmatch(plain) else f'{names[-1]}+DRIVER'}"
        return [Finding(spot, "is not a scheme", fix, scheme)]
    if scheme.partition("+")[0] not in names:
        wrong = f"is not for database: {database}"
        return [Finding(spot, wrong, f"Write {names[-1]}, or {names[-1]}+DRIVER", scheme)]
    return []


def check_versions(apps: Iterable[tuple[str, dict[str, Any]]], images: str) -> list[Finding]:
    """Check whether the image source has the versions of Postgres that the apps ask for."""
    found = []
    for where, app in apps:
        version = app.get("postgres_version")
        if version in (None, "", UNKNOWN) or not has_postgres(app):
            continue
        spot = f"{where}.postgres_version"
        if not re.fullmatch(r"1[3-9]", str(version)):
            fix = "Choose a major version from 13 on that the image has a tag for, such as 17"
            found.append(Finding(spot, "is not a supported major version", fix, version))
        elif images == "debian" and str(version) != DEBIAN_MAJOR:
            wrong = f"is not in Debian 13, which has only {DEBIAN_MAJOR}"
            fix = f"Set images_source to registry, or the version to {DEBIAN_MAJOR}"
            found.append(Finding(spot, wrong, fix, version))
        elif images == "archive":
            wrong = "has no effect with images_source archive, which has one image for all apps"
            fix = "Remove it, and name the image in images_registry.postgres"
            found.append(Finding(spot, wrong, fix, version))
    return found


def check_connections(
    apps: Iterable[tuple[str, dict[str, Any]]], postgres_mb: int
) -> list[Finding]:
    """
    Warn if a database has too little memory for the connections that its app may open.

    Parameters
    ----------
    apps : iterable of (str, dict)
        Place and checked entry of each app.
    postgres_mb : int
        Memory of each Postgres, in MiB.

    Returns
    -------
    list of Finding
        At most one warning per app.
    """
    found = []
    for where, app in apps:
        model = App.from_entry(app)
        need = model.connections * CONNECTION_MB
        if has_postgres(app) and model.connections > FEW_CONNECTIONS and need > postgres_mb:
            each = f"with {model.threads} threads each " if model.has_threads else ""
            wrong = (
                f"{each}may open {model.connections} connections in a deploy, "
                f"for which {postgres_mb} MB of its Postgres are too little"
            )
            fix = "Lower processes or threads, or raise postgres_memory_mb"
            spot, value = f"{where}.processes", model.processes
            found.append(Finding(spot, wrong, fix, value, warning=True))
    return found
