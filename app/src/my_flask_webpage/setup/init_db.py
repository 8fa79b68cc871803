"""Prepare the database: ``python -m my_flask_webpage.setup.init_db``.

Creates the tables that are missing and brings the sample projects up to date. It never drops or
empties anything, so it is safe to run before each release, also by two at once.
"""

import argparse
import sys
import time
from dataclasses import dataclass

from flask import Flask
from sqlalchemy import Connection, Engine, func, inspect, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from my_flask_webpage.content import load_resource
from my_flask_webpage.database_errors import driver_message
from my_flask_webpage.extensions import db
from my_flask_webpage.models import Message, Project

WAIT_SECONDS = 30.0
RETRY_SECONDS = 1.0
LOCK_ID = 0x6D666C61736B  # any number will do, as long as every release uses the same


@dataclass(frozen=True)
class Report:
    """What a run of `init_db` did.

    Attributes
    ----------
    created_tables : tuple[str, ...]
        Names of the tables that were missing.
    added, updated, unchanged : int
        Sample projects.
    messages : int
        Messages found, all of them kept.
    """

    created_tables: tuple[str, ...]
    added: int
    updated: int
    unchanged: int
    messages: int

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"created tables: {', '.join(self.created_tables) or 'none'}; "
            f"projects: {self.added} added, {self.updated} updated, {self.unchanged} unchanged; "
            f"messages kept: {self.messages}"
        )


def init_db(app: Flask | None = None, wait_seconds: float = WAIT_SECONDS) -> Report:
    """Create what is missing and bring the sample projects up to date, in one transaction.

    Parameters
    ----------
    app : flask.Flask, optional
        The application whose database is meant; by default the one that servers load.
    wait_seconds : float, optional
        How long to wait for the database to accept connections, in seconds.

    Returns
    -------
    Report
        What was done.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the database cannot be reached or refuses; nothing is changed then.
    """
    if app is None:
        from my_flask_webpage import app
    with app.app_context():
        wait_for_database(db.engine, wait_seconds)
        with db.engine.begin() as connection:
            take_turns(connection)
            created = create_missing_tables(connection)
            with Session(connection) as session:
                added, updated, unchanged = save_projects(session, load_resource("projects.json"))
                messages = session.scalar(select(func.count()).select_from(Message)) or 0
                session.flush()
        return Report(created, added, updated, unchanged, messages)


def wait_for_database(engine: Engine, seconds: float) -> None:
    """Connect, again and again while Postgres may still be starting.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The engine to connect with.
    seconds : float
        How long to try, in seconds.

    Raises
    ------
    sqlalchemy.exc.OperationalError
        The last failure.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with engine.connect():
                return
        except OperationalError:
            if engine.dialect.name == "sqlite" or time.monotonic() + RETRY_SECONDS > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def take_turns(connection: Connection) -> None:
    """Wait until no other run is at work; the end of the transaction lets the next one in.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        A connection at the start of its transaction.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": LOCK_ID})
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def create_missing_tables(connection: Connection) -> tuple[str, ...]:
    """Create the tables that are not there.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        An open connection.

    Returns
    -------
    tuple[str, ...]
        The names of those it created.
    """
    present = set(inspect(connection).get_table_names())
    db.metadata.create_all(connection)
    return tuple(sorted(set(db.metadata.tables) - present))


def save_projects(session: Session, entries: list[dict[str, str]]) -> tuple[int, int, int]:
    """Insert or update projects by their slug; those that are in no entry stay as they are.

    Parameters
    ----------
    session : sqlalchemy.orm.Session
        An open session.
    entries : list[dict[str, str]]
        The projects in the order in which they are to be shown.

    Returns
    -------
    tuple[int, int, int]
        How many were added, updated, left unchanged.
    """
    present = {project.slug: project for project in session.scalars(select(Project))}
    added = updated = unchanged = 0
    for position, entry in enumerate(entries, start=1):
        project = present.get(entry["slug"])
        if project is None:
            session.add(Project(**entry, position=position))
            added += 1
            continue
        for name, value in {**entry, "position": position}.items():
            setattr(project, name, value)
        if session.is_modified(project):
            updated += 1
        else:
            unchanged += 1
    return added, updated, unchanged


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line.

    Parameters
    ----------
    arguments : list[str], optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit code: 0 when the database is ready, 1 when it is not.
    """
    parser = argparse.ArgumentParser(
        prog="python -m my_flask_webpage.setup.init_db",
        description="Create missing tables and sample projects. Safe to run again.",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help="how long to wait for the database (default: %(default)g)",
    )
    options = parser.parse_args(arguments)
    try:
        report = init_db(wait_seconds=options.wait)
    except SQLAlchemyError as error:
        print(f"init_db: failed, nothing was changed: {driver_message(error)}", file=sys.stderr)
        return 1
    print(f"init_db: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
