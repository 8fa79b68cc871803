"""Answers for machines: whether the process is up, and whether it can serve."""

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
    """Answer 200 while the process is up. The database is not asked."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Answer 200 if the database has a schema that this release works with, otherwise 503."""
    try:
        revision = db.session.scalar(text("SELECT version_num FROM alembic_version"))
        for table in db.metadata.sorted_tables:
            # Naming each column checks the shape of the table; no row is read.
            db.session.execute(select(table).limit(0))
    except SQLAlchemyError as error:
        reason = outage(error)
        if reason is None:
            raise
        return jsonify(status="unavailable", reason=reason), 503
    # A newer release's schema is fine: migrations only add, so this release serves on until it is
    # replaced, and again after a rollback.
    head, *older = known_revisions()
    if revision is None or revision in older:
        return jsonify(status="unavailable", reason=SCHEMA_MISSING), 503
    return jsonify(status="ok", schema=revision, newer=revision != head)
