"""An application on a fresh database, once on SQLite and once on Postgres.

Postgres takes part when TEST_DATABASE_URL names a database in which schemas may be created.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

# Importing the package builds the application that servers load: keep it from this machine's
# settings and away from the disk.
for name in ("SECRET_KEY", "DATABASE_URL", "INSTANCE_PATH", "TRUSTED_PROXY_HOPS"):
    os.environ.pop(name, None)
    os.environ.pop(f"{name}_FILE", None)
os.environ["APP_ENV"] = "development"
os.environ["DATABASE_URL"] = "sqlite://"

from flask import Flask
from flask.testing import FlaskClient

from my_flask_webpage import create_app
from my_flask_webpage.config import engine_options, normalise_database_url
from my_flask_webpage.extensions import db
from my_flask_webpage.setup.init_db import init_db

MakeApp = Callable[..., Flask]


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server = os.environ.get("TEST_DATABASE_URL")
    if not server:
        pytest.skip("TEST_DATABASE_URL is not set")
    server = normalise_database_url(server)
    schema = f"test_{uuid4().hex}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    url = make_url(server).update_query_dict({"options": f"-csearch_path={schema}"})
    yield url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.fixture
def make_app(database_url: str) -> Iterator[MakeApp]:
    """Build applications on the empty database, with the settings given by keyword."""
    apps = []

    def make(**config: object) -> Flask:
        app = create_app(
            {
                "TESTING": True,
                "SQLALCHEMY_DATABASE_URI": database_url,
                "SQLALCHEMY_ENGINE_OPTIONS": engine_options(database_url),
                **config,
            }
        )
        apps.append(app)
        return app

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def empty_app(make_app: MakeApp) -> Flask:
    """An application whose database has no tables."""
    return make_app()


@pytest.fixture
def app(empty_app: Flask) -> Flask:
    """An application that is ready to serve."""
    init_db(empty_app)
    return empty_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor."""
    return app.test_client()


def csrf_token(client: FlaskClient, **request: object) -> str:
    """Read the token from the form, as a browser would."""
    page = client.get("/messages", **request).text
    match = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert match, page
    return match[1]


def leave_message(client: FlaskClient, name: str = "Ada", body: str = "Hello", **request: object):
    """Fill in the form and send it."""
    form = {"csrf_token": csrf_token(client, **request), "name": name, "body": body}
    return client.post("/messages", data=form, **request)
