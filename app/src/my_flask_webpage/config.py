"""Settings from the environment and from secret files.

A secret ``NAME`` is read from the environment, or from the file whose path is in ``NAME_FILE``.
Prefer the file: an environment shows in process listings and container metadata.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from flask.cli import run_command
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

ENVIRONMENTS = ("production", "development", "testing")
PACKAGE = Path(__file__).parent
SECRET_KEY_MIN_LENGTH = 32

DEVELOPMENT_SECRET_KEY = "insecure-development-key-the-same-on-every-laptop"  # noqa: S105
# A relative path is relative to the instance folder.
DEFAULT_DATABASE_URLS = {
    "development": "sqlite:///my_flask_webpage.db",
    "testing": "sqlite://",
}

# The deployment mounts a volume here. Other environments keep pictures in the instance folder.
PRODUCTION_MEDIA_DIR = "/data/media"

SESSION_LIFETIME = timedelta(hours=12)

# Words in keys copied from documentation. A random key practically never contains one.
EXAMPLE_KEY_WORDS = ("change", "example", "insecure", "placeholder", "secret", "your-", "your_")

HOW_TO_MAKE_A_KEY = (
    'Make one with: python3 -c "import secrets; print(secrets.token_urlsafe(48))" '
    "and put it in SECRET_KEY, or in a file named by SECRET_KEY_FILE."
)


class ConfigError(Exception):
    """A setting is missing or invalid; the message is written for the operator."""


def load_config(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read the settings from the environment and check them.

    Raises
    ------
    ConfigError
        If a setting is missing, unreadable or unsafe. The message never contains a secret.
    """
    environ = os.environ if environ is None else environ
    # The default is the strict environment: a forgotten setting must not make the site insecure.
    environment = environ.get("APP_ENV") or (
        "development" if is_development_server() else "production"
    )
    if environment not in ENVIRONMENTS:
        raise ConfigError(f"APP_ENV is {environment!r}; it must be one of {list(ENVIRONMENTS)}.")
    production = environment == "production"

    secret_key = read_secret("SECRET_KEY", environ)
    database_url = read_secret("DATABASE_URL", environ)
    if production:
        check_secret_key(secret_key)
        if not database_url:
            raise ConfigError(
                "DATABASE_URL is missing. Set DATABASE_URL or DATABASE_URL_FILE, for example to "
                "postgresql://user:password@host/database."
            )
    database_url = normalise_database_url(
        database_url or DEFAULT_DATABASE_URLS.get(environment, "")
    )

    return {
        "APP_ENV": environment,
        "TESTING": environment == "testing",
        "SECRET_KEY": secret_key or DEVELOPMENT_SECRET_KEY,
        "SQLALCHEMY_DATABASE_URI": database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine_options(
            database_url, pool_size=read_integer("DATABASE_POOL_SIZE", 4, environ, at_least=1)
        ),
        "TRUSTED_PROXY_HOPS": read_integer("TRUSTED_PROXY_HOPS", 0, environ),
        "MAX_CONTENT_LENGTH": read_integer("MAX_CONTENT_LENGTH", 64 * 1024, environ, at_least=1),
        "UPLOAD_MAX_BYTES": read_integer("UPLOAD_MAX_MB", 10, environ, at_least=1) * 1024 * 1024,
        # For one client, and for all clients together.
        "MESSAGES_PER_HOUR": read_integer("MESSAGES_PER_HOUR", 10, environ, at_least=1),
        "MESSAGES_PER_HOUR_IN_ALL": read_integer(
            "MESSAGES_PER_HOUR_IN_ALL", 200, environ, at_least=1
        ),
        # None stands for the instance folder, which only the factory knows.
        "MEDIA_DIR": environ.get("MEDIA_DIR") or (PRODUCTION_MEDIA_DIR if production else None),
        "RESOURCE_DIR": environ.get("RESOURCE_DIR") or str(PACKAGE / "resource"),
        # With this prefix browsers refuse the cookie unless it is Secure and has no Domain.
        # https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Set-Cookie#cookie_prefixes
        "SESSION_COOKIE_NAME": "__Host-session" if production else "session",
        "SESSION_COOKIE_SECURE": production,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "PERMANENT_SESSION_LIFETIME": SESSION_LIFETIME,
        # A token is valid as long as its session: a visitor who takes two hours to write a
        # message must not lose it.
        "WTF_CSRF_TIME_LIMIT": None,
        "WTF_CSRF_SSL_STRICT": False,  # security.py has a check that works behind proxies
    }


def is_development_server() -> bool:
    """Tell whether ``flask run`` loads the app, which is never used in production."""
    context = click.get_current_context(silent=True)
    return context is not None and context.command is run_command


def read_secret(name: str, environ: Mapping[str, str]) -> str | None:
    """Read a secret from the file in ``<name>_FILE``, else from ``<name>``; None if it is empty.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name, "").strip() or None
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"{name}_FILE: cannot read {path}: {reason}.") from error


def read_integer(name: str, default: int, environ: Mapping[str, str], at_least: int = 0) -> int:
    """Read a whole number from the environment.

    Raises
    ------
    ConfigError
        If the value is not a whole number or smaller than `at_least`.
    """
    text = environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit()) or int(text) < at_least:
        raise ConfigError(f"{name} is {text!r}; it must be a whole number, at least {at_least}.")
    return int(text)


def check_secret_key(key: str | None) -> None:
    """Refuse a key that an attacker could guess to forge a session.

    Raises
    ------
    ConfigError
        If the key is missing, short, repetitive, or copied from an example.
    """
    if not key:
        fault = "is missing"
    elif len(key) < SECRET_KEY_MIN_LENGTH:
        fault = f"is shorter than {SECRET_KEY_MIN_LENGTH} characters"
    elif len(set(key)) < 8 or any(word in key.lower() for word in EXAMPLE_KEY_WORDS):
        fault = "looks like an example and not like a random key"
    else:
        return
    raise ConfigError(f"SECRET_KEY {fault}. {HOW_TO_MAKE_A_KEY}")


def normalise_database_url(url: str) -> str:
    """Add the installed driver to a Postgres URL that names none.

    ``postgres://`` is accepted as well: SQLAlchemy does not know it, but other tools write it.

    Raises
    ------
    ConfigError
        If the URL cannot be parsed. The message omits it, because it contains the password.
    """
    scheme, separator, rest = url.partition("://")
    if scheme in {"postgres", "postgresql"}:
        url = f"postgresql+psycopg2{separator}{rest}"
    try:
        make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "DATABASE_URL cannot be parsed. Special characters in the password must be "
            "percent-encoded."
        ) from None
    return url


def engine_options(database_url: str, pool_size: int = 4) -> dict[str, Any]:
    """Choose the keyword arguments of `sqlalchemy.create_engine`.

    Parameters
    ----------
    database_url : str
        The normalised database URL.
    pool_size : int, optional
        Connections that one process may open; should be its number of threads.
    """
    if not database_url.startswith("postgresql"):
        # How long a writer waits for another writer, in seconds.
        return {"connect_args": {"timeout": 30}}
    return {
        # Without this, each pooled connection fails once after a restart of Postgres.
        "pool_pre_ping": True,
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": 5,
        "connect_args": {"connect_timeout": 3, "application_name": "my_flask_webpage"},
    }
