"""Answers for machines: whether the process is up, and whether it can serve."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from my_flask_webpage.database_errors import outage
from my_flask_webpage.extensions import db

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Say that the process is up. The database is not asked.

    Returns
    -------
    flask.typing.ResponseReturnValue
        Always 200.
    """
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Say whether the database answers and has every table and column this version uses.

    Returns
    -------
    flask.typing.ResponseReturnValue
        200, or 503 with a short reason.
    """
    try:
        for table in db.metadata.sorted_tables:
            # Naming each column checks the shape of the table; no row is read.
            db.session.execute(select(table).limit(0))
    except SQLAlchemyError as error:
        reason = outage(error)
        if reason is None:
            raise
        return jsonify(status="unavailable", reason=reason), 503
    return jsonify(status="ok")
