"""The command ``flask init-db``, also run as ``python -m my_flask_webpage.setup.init_db``.

It checks the owner's JSON files, migrates the schema, and updates the rows that come from the
files, all in one transaction. It drops nothing, so it is safe to run before each release, while
the old release serves, and twice at the same time.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from flask import Flask, current_app
from flask.cli import with_appcontext
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, selectinload

from my_flask_webpage import media
from my_flask_webpage.content import IMAGES, PICTURES, Content, ContentError, load_content
from my_flask_webpage.database_errors import driver_message
from my_flask_webpage.extensions import db, migrate
from my_flask_webpage.models import Image, Kept, Message, Project
from my_flask_webpage.schema import known_revisions

WAIT_SECONDS = 30.0
RETRY_SECONDS = 1.0
LOCK_SECONDS = 60
LOCK_ID = 0x6D666C61736B  # an arbitrary number, the same in every release


@dataclass
class Tally:
    """Counts of the changes to the rows of one model.

    Attributes
    ----------
    added, updated, unchanged : int
        Rows that are now as in the file.
    kept : int
        Rows not updated, because they were changed or hidden in the internal area.
    hidden : int
        Rows that are no longer in the file.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: int = 0
    hidden: int = 0

    def __str__(self) -> str:
        """Format the counts for the report."""
        parts = [f"{self.added} added", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        if self.kept:
            parts.append(f"{self.kept} kept as edited")
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        return ", ".join(parts)


@dataclass
class Report:
    """The result of `init_db`.

    Attributes
    ----------
    before, after : str or None
        The schema's revision before and after; None for a database that is empty or unversioned.
    projects, images : Tally
        Changes to the rows that come from the files.
    messages : int
        Number of messages; `init_db` does not change them.
    """

    before: str | None = None
    after: str | None = None
    projects: Tally = field(default_factory=Tally)
    images: Tally = field(default_factory=Tally)
    messages: int = 0

    def __str__(self) -> str:
        """Format the result as one line."""
        schema = self.after if self.before == self.after else f"{self.before} to {self.after}"
        return (
            f"schema: {schema}; projects: {self.projects}; images: {self.images}; "
            f"messages kept: {self.messages}"
        )


def init_db(
    app: Flask,
    wait_seconds: float = WAIT_SECONDS,
    overwrite: bool = False,
    reset: bool = False,
) -> Report:
    """Migrate the schema and update the rows that come from the files, in one transaction.

    Parameters
    ----------
    app : flask.Flask
        The application whose database is prepared.
    wait_seconds : float, optional
        How long to wait for the database to accept connections, in seconds.
    overwrite : bool, optional
        Also update rows that the internal area has changed or hidden.
    reset : bool, optional
        Drop all tables first, with everything in them.

    Raises
    ------
    my_flask_webpage.content.ContentError
        If the owner's files are invalid; nothing is changed then.
    sqlalchemy.exc.SQLAlchemyError
        If the database is unreachable or reports an error; nothing is changed then.
    OSError
        If the media folder cannot be written to; nothing is changed then.
    """
    with app.app_context():
        # Pictures are written before the transaction, which keeps it short. Their names depend on
        # their content, and an unused file does no harm.
        content = load_content(Path(app.config["RESOURCE_DIR"]))
        pictures = store_pictures(content)
        wait_for_database(db.engine, wait_seconds)
        with db.engine.begin() as connection:
            take_turns(connection)
            if reset:
                drop_everything(connection)
            report = Report(before=revision(connection))
            upgrade(connection, report.before)
            report.after = revision(connection)
            with Session(connection) as session:
                save_projects(session, content, report.projects, overwrite)
                save_images(session, content, pictures, report.images, overwrite)
                report.messages = session.scalar(select(func.count()).select_from(Message)) or 0
                used = set(session.scalars(select(Image.digest)))
        if reset:
            remove_unused_files(used)
        return report


def store_pictures(content: Content) -> dict[str, media.Picture]:
    """Store the owner's pictures in the media folder, and return them by file name.

    Raises
    ------
    my_flask_webpage.content.ContentError
        If files are not accepted pictures; it lists all of them.
    """
    source = Path(current_app.config["RESOURCE_DIR"]) / PICTURES
    folder = media.root()
    problems: list[str] = []
    pictures: dict[str, media.Picture] = {}
    for index, entry in enumerate(content.images):
        try:
            pictures[entry["file"]] = media.store((source / entry["file"]).read_bytes(), folder)
        except media.PictureError as error:
            problems.append(f"resource/{IMAGES}: $.images[{index}].file: {entry['file']}: {error}")
    if problems:
        raise ContentError(problems)
    return pictures


def remove_unused_files(used: set[str]) -> None:
    """Remove the files of pictures that no row uses."""
    folder = media.root()
    for preview in folder.glob("*.jpg"):
        if preview.stem not in used:
            media.remove(preview.stem, folder)


def wait_for_database(engine: Engine, seconds: float) -> None:
    """Wait until the database accepts connections.

    Raises
    ------
    sqlalchemy.exc.OperationalError
        If it does not accept any within `seconds`.
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
    """Wait for other runs of `init_db` to finish; the lock ends with the transaction."""
    if connection.dialect.name == "postgresql":
        # Fail if a table is locked for longer, so that other queries do not queue behind this one.
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": LOCK_ID})
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def drop_everything(connection: Connection) -> None:
    """Drop all tables of the app."""
    db.metadata.drop_all(connection)
    connection.execute(text("DROP TABLE IF EXISTS alembic_version"))


def revision(connection: Connection) -> str | None:
    """Return the schema's revision; None if the database has none."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, current: str | None) -> None:
    """Run the missing migrations within the open transaction.

    An unknown revision comes from a newer release, before a rollback. Migrations only add, so such
    a database is left as it is.
    """
    if current is None or current in known_revisions():
        config = migrate.get_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def save_projects(session: Session, content: Content, tally: Tally, overwrite: bool) -> None:
    """Insert or update the projects of the file by their slugs, and count them in `tally`."""
    rows = session.scalars(select(Project)).all()
    by_source = {project.source: project for project in rows if project.source}
    by_slug = {project.slug: project for project in rows}
    for position, entry in enumerate(content.projects, start=1):
        values = {
            "source": entry["slug"],
            "slug": entry["slug"],
            "title": entry["title"],
            "period": entry["period"],
            "summary": entry["summary"],
            "text": "\n\n".join(entry.get("text", [])),
            "links": entry.get("links", []),
            "highlighted": entry.get("highlighted", False),
        }
        # Rows from the first releases have no source, and neither have those of the internal area.
        row = by_source.get(entry["slug"]) or by_slug.get(entry["slug"])
        _save(session, Project, row, values, position, tally, overwrite)
    _hide(by_source.values(), {entry["slug"] for entry in content.projects}, tally)
    session.flush()


def save_images(
    session: Session,
    content: Content,
    pictures: dict[str, media.Picture],
    tally: Tally,
    overwrite: bool,
) -> None:
    """Insert or update the pictures of the file by project and file name, and count them."""
    for project in session.scalars(select(Project).options(selectinload(Project.images))).all():
        entries = [entry for entry in content.images if entry["project"] == project.source]
        present = {image.source: image for image in project.images if image.source}
        for position, entry in enumerate(entries, start=1):
            picture = pictures[entry["file"]]
            values = {
                "project_id": project.id,
                "source": entry["file"],
                "digest": picture.digest,
                "width": picture.width,
                "height": picture.height,
                "widths": picture.widths,
                "alt": entry["alt"],
                "caption": entry.get("caption", ""),
                "credit": entry.get("credit", ""),
            }
            _save(session, Image, present.get(entry["file"]), values, position, tally, overwrite)
        _hide(present.values(), {entry["file"] for entry in entries}, tally)
    session.flush()


def _save(
    session: Session,
    model: type[Project] | type[Image],
    row: Any,
    values: dict[str, Any],
    position: int,
    tally: Tally,
    overwrite: bool,
) -> None:
    if row is None:
        session.add(model(**values, position=position))
        tally.added += 1
        return
    if row.edited and not overwrite:
        tally.kept += 1
        return
    values |= {"edited": False, "hidden": False}
    if overwrite:
        values["moved"] = False
    if overwrite or not row.moved:
        values["position"] = position
    changed = {name: value for name, value in values.items() if getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    if changed:
        tally.updated += 1
    else:
        tally.unchanged += 1


def _hide(rows: Iterable[Kept], named: set[str], tally: Tally) -> None:
    for row in rows:
        if row.source not in named and not row.edited and not row.hidden:
            row.hidden = True
            tally.hidden += 1


@click.command("init-db")
@click.option(
    "--wait",
    type=float,
    default=WAIT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the database to accept connections.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Also update rows that were changed or hidden in the internal area.",
)
@click.option("--reset", is_flag=True, help="Drop all tables and their data first.")
@click.option(
    "--yes-destroy-data",
    is_flag=True,
    help="Do not ask for confirmation of --reset; required in production.",
)
@with_appcontext
def init_db_command(wait: float, overwrite: bool, reset: bool, yes_destroy_data: bool) -> None:
    """Migrate the database and update the rows that come from the JSON files."""
    if reset and not yes_destroy_data:
        if current_app.config["APP_ENV"] == "production":
            fail(["--reset destroys all data. In production it also needs --yes-destroy-data."])
        name = db.engine.url.render_as_string(hide_password=True)
        click.confirm(f"Drop all tables of {name} and their data?", abort=True)
    try:
        report = init_db(current_app, wait, overwrite, reset)  # type: ignore[arg-type]
    except ContentError as error:
        fail(error.problems)
    except SQLAlchemyError as error:
        fail([driver_message(error)])
    except CommandError as error:
        fail([str(error)])
    except OSError as error:
        fail([f"{error.filename}: {error.strerror}. MEDIA_DIR must be a writable folder."])
    click.echo(f"init_db: {report}")


def fail(problems: list[str]) -> None:
    """Print the problems and end the process with exit code 1."""
    for problem in problems:
        click.echo(f"init_db: {problem}", err=True)
    click.echo("init_db: failed, nothing was changed", err=True)
    sys.exit(1)
