"""The application factory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from my_flask_webpage import (
    accounts,
    assets,
    caching,
    content,
    errors,
    health,
    internal,
    logs,
    media,
    messages,
    pages,
    security,
)
from my_flask_webpage.config import load_config
from my_flask_webpage.extensions import csrf, db, migrate
from my_flask_webpage.internal.rows import RowId
from my_flask_webpage.schema import MIGRATIONS
from my_flask_webpage.setup.database import init_db_command


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Build an application.

    Neither the disk nor the database is touched: the server forks its workers after this, and
    a connection opened here would be shared by all of them.

    Parameters
    ----------
    config : Mapping[str, Any], optional
        Keys that override those read from the environment; tests use it.

    Raises
    ------
    my_flask_webpage.config.ConfigError
        If a setting is missing or unsafe.
    my_flask_webpage.content.ContentError
        If the owner's files are wrong.
    """
    app = Flask("my_flask_webpage", instance_path=instance_path())
    app.config.from_mapping(load_config())
    app.config.from_mapping(config or {})

    trust_proxies(app, app.config["TRUSTED_PROXY_HOPS"])
    # Hooks that these register run in this order before a request, and in the opposite one after.
    logs.init_app(app)
    db.init_app(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS))
    accounts.init_app(app)
    security.init_app(app)
    csrf.init_app(app)
    caching.init_app(app)
    assets.init_app(app)
    content.init_app(app)
    media.init_app(app)
    errors.init_app(app)
    app.cli.add_command(init_db_command)

    app.url_map.converters |= {"id": RowId, "slug": pages.Slug}
    for feature in (health, pages, media, messages, accounts, internal):
        app.register_blueprint(feature.blueprint)
    dispose_after_fork(app)
    return app


def instance_path() -> str | None:
    """Choose the folder for the SQLite file.

    Returns
    -------
    str or None
        ``INSTANCE_PATH`` if it is set; ``instance/`` beside ``pyproject.toml`` when the package
        runs from its source folder; otherwise None, for Flask's own choice under ``sys.prefix``.
    """
    if configured := os.environ.get("INSTANCE_PATH"):
        return str(Path(configured).resolve())
    project = Path(__file__).resolve().parents[2]
    return str(project / "instance") if (project / "pyproject.toml").is_file() else None


def trust_proxies(app: Flask, hops: int) -> None:
    """Believe the ``X-Forwarded-*`` headers of as many proxies as stand in front.

    With 0 none are believed, because anyone can send them.
    """
    if hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops
        )


def dispose_after_fork(app: Flask) -> None:
    """Make each of uWSGI's processes open connections of its own.

    Nothing here connects before the fork; this keeps a process sound if something ever does.
    https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
    """
    try:
        from uwsgidecorators import postfork
    except ImportError:  # there only within uWSGI
        return

    @postfork
    def forget_connections() -> None:
        with app.app_context():
            # Left open, because they are the parent's.
            db.engine.dispose(close=False)
