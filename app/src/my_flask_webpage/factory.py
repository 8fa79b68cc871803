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

    This opens no connection to the database: the server forks its workers afterwards, and they
    would share the connection. It also writes nothing to the disk.

    Parameters
    ----------
    config : Mapping[str, Any], optional
        Settings that override those from the environment, for tests.

    Raises
    ------
    my_flask_webpage.config.ConfigError
        If a setting is missing or unsafe.
    my_flask_webpage.content.ContentError
        If the owner's files are invalid.
    """
    app = Flask("my_flask_webpage", instance_path=instance_path())
    app.config.from_mapping(load_config())
    app.config.from_mapping(config or {})

    trust_proxies(app, app.config["TRUSTED_PROXY_HOPS"])
    # Their hooks run in this order before a request, and in reverse order after it.
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
        runs from its source folder; otherwise None for Flask's default below ``sys.prefix``.
    """
    if configured := os.environ.get("INSTANCE_PATH"):
        return str(Path(configured).resolve())
    project = Path(__file__).resolve().parents[2]
    return str(project / "instance") if (project / "pyproject.toml").is_file() else None


def trust_proxies(app: Flask, hops: int) -> None:
    """Trust the ``X-Forwarded-*`` headers of this number of proxies.

    With 0, none are trusted, because any client can send them.
    """
    if hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops
        )


def dispose_after_fork(app: Flask) -> None:
    """Make each of uWSGI's processes open its own database connections.

    Nothing connects before the fork now; this protects the processes if something ever does.
    https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
    """
    try:
        from uwsgidecorators import postfork
    except ImportError:  # exists only inside uWSGI
        return

    @postfork
    def forget_connections() -> None:
        with app.app_context():
            # Not closed, because they belong to the parent process.
            db.engine.dispose(close=False)
