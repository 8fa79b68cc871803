"""Fixtures: an application with its own database, on SQLite and on Postgres.

Postgres is tested if TEST_DATABASE_URL names a server on which the tests may create databases.
``make test-app`` in the project's root starts one.
"""

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image as Pillow
from sqlalchemy import create_engine, make_url, text

# Importing the package builds the application that servers load; keep it away from this machine's
# settings and from the disk.
for name in ("SECRET_KEY", "DATABASE_URL", "INSTANCE_PATH", "TRUSTED_PROXY_HOPS", "RESOURCE_DIR"):
    os.environ.pop(name, None)
    os.environ.pop(f"{name}_FILE", None)
os.environ["APP_ENV"] = "testing"
os.environ["DATABASE_URL"] = "sqlite://"

from flask import Flask
from flask.testing import FlaskClient

from my_flask_webpage import create_app
from my_flask_webpage.accounts import hasher
from my_flask_webpage.config import engine_options, normalise_database_url
from my_flask_webpage.extensions import db
from my_flask_webpage.models import User
from my_flask_webpage.setup.database import init_db

MakeApp = Callable[..., Flask]

EMAIL = "owner@example.org"
PASSWORD = "correct horse battery staple"


class Sqlite:
    """Creates SQLite databases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, template: str | None = None) -> str:
        """Make a database, empty or as a copy, and return its address."""
        path = self.folder / f"{uuid4().hex}.db"
        if template:
            shutil.copyfile(template.removeprefix("sqlite:///"), path)
        return f"sqlite:///{path}"

    def drop(self, url: str) -> None:
        """Remove a database."""
        Path(url.removeprefix("sqlite:///")).unlink(missing_ok=True)


class Postgres:
    """Creates databases on a Postgres server."""

    def __init__(self, url: str) -> None:
        self.server = make_url(normalise_database_url(url))
        self.engine = create_engine(self.server, isolation_level="AUTOCOMMIT")

    def create(self, template: str | None = None) -> str:
        """Make a database, empty or as a copy, and return its address."""
        name = f"test_{uuid4().hex}"
        copied = make_url(template).database if template else "template0"
        with self.engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {copied}"))
        return self.server.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a database."""
        with self.engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {make_url(url).database} WITH (FORCE)"))


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Sqlite | Postgres:
    """The databases to test on: SQLite, and Postgres if it is configured."""
    if request.param == "sqlite":
        return Sqlite(tmp_path_factory.mktemp("databases"))
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("TEST_DATABASE_URL is not set")
    return Postgres(url)


@pytest.fixture(scope="session")
def media_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One media folder for all tests, because its files are named after their content."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def template(server: Sqlite | Postgres, media_dir: Path) -> Iterator[str]:
    """URL of a database prepared by `init_db`, with an account for the owner."""
    url = server.create()
    app = build(url, media_dir)
    init_db(app)
    with app.app_context():
        user = User(email=EMAIL, password_hash=hasher.hash(PASSWORD), session_key="k" * 64)
        db.session.add(user)
        db.session.commit()
        db.session.remove()
        db.engine.dispose()
    yield url
    server.drop(url)


def build(url: str, media_dir: Path, **config: object) -> Flask:
    """Build an application with this database."""
    return create_app(
        {
            "SQLALCHEMY_DATABASE_URI": url,
            "SQLALCHEMY_ENGINE_OPTIONS": engine_options(url),
            "MEDIA_DIR": str(media_dir),
            **config,
        }
    )


def maker(server: Sqlite | Postgres, url: str, media_dir: Path) -> Iterator[MakeApp]:
    """Yield a function that builds applications, and clean up after them."""
    apps: list[Flask] = []

    def make(**config: object) -> Flask:
        apps.append(build(url, media_dir, **config))
        return apps[-1]

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()
    server.drop(url)


@pytest.fixture
def database_url(server: Sqlite | Postgres) -> str:
    """URL of an empty database."""
    return server.create()


@pytest.fixture
def make_empty_app(
    server: Sqlite | Postgres, database_url: str, media_dir: Path
) -> Iterator[MakeApp]:
    """Build applications on an empty database; keyword arguments are settings."""
    yield from maker(server, database_url, media_dir)


@pytest.fixture
def make_app(server: Sqlite | Postgres, template: str, media_dir: Path) -> Iterator[MakeApp]:
    """Build applications on a prepared database; keyword arguments are settings."""
    yield from maker(server, server.create(template), media_dir)


@pytest.fixture
def empty_app(make_empty_app: MakeApp) -> Flask:
    """An application whose database has no tables."""
    return make_empty_app()


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that is ready to serve."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor's client."""
    return app.test_client()


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    """The owner's client, logged in."""
    client = app.test_client()
    assert log_in(client).status_code == 303
    return client


def csrf_token(client: FlaskClient, path: str = "/messages", **request: object) -> str:
    """Read the CSRF token from a form, as a browser would."""
    page = client.get(path, **request).text
    match = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert match, page
    return match[1]


def send(client: FlaskClient, path: str, form: str = "", **fields: object):
    """Send a form to `path` with the CSRF token of the page `form`, by default of `path`."""
    token = csrf_token(client, form or path)
    return client.post(path, data={"csrf_token": token, **fields})


def log_in(client: FlaskClient, password: str = PASSWORD, email: str = EMAIL, query: str = ""):
    """Send the login form."""
    return send(client, f"/login{query}", "/login", email=email, password=password)


def leave_message(client: FlaskClient, name: str = "Ada", body: str = "Hello", **request: object):
    """Send the message form."""
    form = {"csrf_token": csrf_token(client, **request), "name": name, "body": body}
    return client.post("/messages", data=form, **request)


def picture(kind: str = "JPEG", size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    """Make a small picture: the left half is red, the right half is blue."""
    image = Pillow.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
