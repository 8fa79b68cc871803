"""Tells an unavailable database from an error in the program."""

import logging
import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

logger = logging.getLogger(__name__)

SCHEMA_MISSING = "the tables are missing or outdated; run my_flask_webpage.setup.init_db"
UNREACHABLE = "the database cannot be reached"
BUSY = "the database is busy"

# https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRES_UNDEFINED = {"3F000", "42P01", "42703"}  # schema, table, column

# SQLite uses one class for most errors; only their messages differ.
SQLITE_OUTAGES = {
    "no such table": SCHEMA_MISSING,
    "no such column": SCHEMA_MISSING,
    "database is locked": BUSY,
    "unable to open database file": UNREACHABLE,
}


def outage(error: SQLAlchemyError) -> str | None:
    """Tell why the database is unavailable, and log the driver's message.

    Returns
    -------
    str or None
        A short reason without host or user, safe to show to anyone; None for any other error.
    """
    reason = _reason(error)
    if reason:
        logger.warning("%s: %s", reason, driver_message(error))
    return reason


def driver_message(error: SQLAlchemyError) -> str:
    """Return the driver's message in one line.

    It contains host, port and cause, but neither the statement nor the password.
    """
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _reason(error: SQLAlchemyError) -> str | None:
    if isinstance(error, PoolTimeoutError):
        return BUSY
    if not isinstance(error, DBAPIError):
        return None
    if isinstance(error.orig, sqlite3.Error):
        return next((why for text, why in SQLITE_OUTAGES.items() if text in str(error.orig)), None)
    if getattr(error.orig, "pgcode", None) in POSTGRES_UNDEFINED:
        return SCHEMA_MISSING
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return UNREACHABLE
    return None
