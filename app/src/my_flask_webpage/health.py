"""Health checks: whether the process is up, and whether it can serve requests."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from my_flask_webpage.database_errors import SCHEMA_MISSING, outage
from my_flask_webpage.extensions import db
from my_flask_webpage.schema import known_revisions

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Respond with 200 while the process is up, without a query to the database."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Respond with 200 if this release can work with the database's schema, otherwise with 503."""
    try:
        revision = db.session.scalar(text("SELECT version_num FROM alembic_version"))
        for table in db.metadata.sorted_tables:
            # Selecting each column checks that it exists; no row is read.
            db.session.execute(select(table).limit(0))
    except SQLAlchemyError as error:
        reason = outage(error)
        if reason is None:
            raise
        return jsonify(status="unavailable", reason=reason), 503
    # The schema of a newer release is fine: migrations only add, so this release works until it is
    # replaced, and again after a rollback.
    head, *older = known_revisions()
    if revision is None or revision in older:
        return jsonify(status="unavailable", reason=SCHEMA_MISSING), 503
    return jsonify(status="ok", schema=revision, newer=revision != head)
