"""Read the table of contents of an archive that pg_dump wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ansible.module_utils.dumps import REPLACED

# Entries of an archive whose description has more than one word: pg_backup_archiver.c.
LONG_ENTRIES = (
    *("ACCESS METHOD", "BLOB COMMENTS", "BLOB METADATA", "CHECK CONSTRAINT", "DATABASE PROPERTIES"),
    *("DEFAULT ACL", "EVENT TRIGGER", "FK CONSTRAINT", "FOREIGN DATA WRAPPER", "FOREIGN SERVER"),
    *("FOREIGN TABLE", "INDEX ATTACH", "LARGE OBJECT", "MATERIALIZED VIEW DATA"),
    *("MATERIALIZED VIEW", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURAL LANGUAGE"),
    *("PUBLICATION TABLES IN SCHEMA", "PUBLICATION TABLE", "ROW SECURITY", "SECURITY LABEL"),
    *("SEQUENCE OWNED BY", "SEQUENCE SET", "SHELL TYPE", "STATISTICS DATA", "SUBSCRIPTION TABLE"),
    *("TABLE ATTACH", "TABLE DATA", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY"),
    *("TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "USER MAPPING"),
)


@dataclass(frozen=True)
class Entry:
    """A line of the output of ``pg_restore --list``."""

    line: str
    kind: str
    schema: str
    name: str
    owner: str


@dataclass
class Contents:
    """
    The output of ``pg_restore --list``.

    Parameters
    ----------
    database : str
        Name of the database that was dumped.
    major : int
        Major version of its server; 0 if it is not known.
    entries : list of Entry
        The entries of the archive.
    """

    database: str = ""
    major: int = 0
    entries: list[Entry] = field(default_factory=list)

    def named(self, *kinds: str) -> set[tuple[str, str]]:
        """List schema and name of the entries of some kinds."""
        return {(e.schema, e.name) for e in self.entries if e.kind in kinds}


def parse_contents(text: str) -> Contents:
    """
    Read the table of contents of an archive.

    Parameters
    ----------
    text : str
        Output of ``pg_restore --list``.

    Returns
    -------
    Contents
        The parsed output.
    """
    found = Contents()
    for line in text.splitlines():
        if match := re.match(r";\s+dbname: (.*)", line):
            found.database = match[1].strip()
        elif match := re.match(r";\s+Dumped from database version: (\d+)", line):
            found.major = int(match[1])
        elif match := re.match(r"\d+; \d+ \d+ (.*)", line):
            rest = match[1]
            kind = next((k for k in LONG_ENTRIES if rest.startswith(f"{k} ")), rest.split(" ")[0])
            schema, _, tagged = rest[len(kind) + 1 :].partition(" ")
            name, _, owner = tagged.rpartition(" ")
            found.entries.append(Entry(line, kind, schema, name, owner))
    return found


def contents_error(contents: Contents, app: str, major: int) -> str:
    """
    Return why an archive cannot be restored as the database of an app.

    Parameters
    ----------
    contents : Contents
        The archive's table of contents.
    app : str
        The app's name, which is also its database's.
    major : int
        Major version of the app's Postgres.

    Returns
    -------
    str
        What is wrong and what to do; empty if the archive fits.
    """
    kept = REPLACED.fullmatch(contents.database)
    if app not in (contents.database, kept and contents.database[: kept.start(1) - 1]):
        other = contents.database or "an unknown database"
        return f"is a dump of {other}, not of {app}. Choose one of {app}'s own"
    if contents.major > major:
        return (
            f"was made by Postgres {contents.major}, and {app} has Postgres {major}, which cannot "
            "read it. Choose an older dump, or set images_registry.postgres to an image of "
            f"version {contents.major}"
        )
    return ""


def belongs_to_app(contents: Contents, app: str) -> bool:
    """Tell whether the app owns everything in an archive, so that its own role may restore it."""
    # Extensions have no owner in an archive. The schema public belongs to the database's owner.
    return {entry.owner for entry in contents.entries} <= {"", app, "pg_database_owner"}
