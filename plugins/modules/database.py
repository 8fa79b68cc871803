#!/usr/bin/python
"""Ansible module: dump an app's database, keep its dumps in order, and restore one of them."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: database
short_description: Dump and restore the database of an app
description:
  - C(dumped) makes a dump and checks it. A dump under its last name is whole.
  - C(listed) lists the dumps, and databases that a restore has replaced.
  - C(marked) notes that the release of a dump failed. C(pruned) removes what is too old.
  - C(examined) refuses a dump that cannot be restored. C(prepared) restores it beside the database
    in use, C(abandoned) removes that copy again.
  - C(swapped) stops the app, dumps its database, gives the copy its name, and starts the app.
    C(returned) takes that back, C(settled) leaves it at that.
  - C(recovered) finishes or takes back what an interrupted restore has left.
options:
  state:
    description: What to do.
    type: str
    required: true
    choices: [dumped, listed, marked, pruned, examined, prepared, abandoned, swapped, returned,
              settled, recovered]
  app: {description: The app's name., type: str, required: true}
  dir: {description: The app's folder on the server., type: path, required: true}
  kind:
    description: Its database; C(found) asks the server.
    type: str
    choices: [postgres, sqlite, none, found]
    default: found
  images:
    description:
      - Images with Python for SQLite, beside those of the release that was in service last. The
        first that is there is used.
    type: list
    elements: str
    default: []
  reason:
    description: For C(dumped) and C(marked), the release that comes next, or another reason.
    type: str
    default: ""
  dump:
    description:
      - File name in the folder of dumps, path on the server, C(latest), or name of a replaced
        database.
    type: str
    default: latest
  kept: {description: How many dumps of each kind C(pruned) leaves., type: int, default: 5}
  days:
    description: For how many days C(pruned) leaves the day's last dump as well.
    type: int
    default: 7
  failed:
    description: For C(pruned), releases that never took traffic.
    type: list
    elements: str
    default: []
  undumped:
    description: Whether C(swapped) goes on when the database in use cannot be dumped.
    type: bool
    default: false
author: flask-vps maintainers
notes:
  - It asks through the command line of Docker, which every engine brings, whatever its age.
"""

EXAMPLES = r"""
- name: Dump the database
  database: {state: dumped, app: shop, dir: /opt/flask-vps/apps/shop, reason: 0123456789ab}
"""

RETURN = r"""
dump: {description: The dump that was made or examined., type: dict}
dumps: {description: The dumps that there are, the youngest first., type: list, elements: dict}
databases: {description: Databases that restores have replaced., type: list, elements: dict}
removed: {description: Names of the dumps that were removed., type: list, elements: str}
tables: {description: Rows of each table now and in the dump., type: list, elements: dict}
lines: {description: What an operator should know., type: list, elements: str}
interrupted: {description: Where the last restore ended; empty if it was whole., type: str}
kept: {description: Name of the database that was replaced., type: str}
started: {description: Containers that were started again., type: list, elements: str}
"""

STAMP = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"(\d{8}T\d{6}Z)-before-([\w.-]+?)(-failed)?\.dump")
# Reasons for a dump that are no release.
OTHER_REASONS = ("removal", "restore")
# Left free for everybody else, in bytes.
RESERVE = 50 * 2**20
SQLITE_FILE = "app.db"
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

# What pg_dump leaves to --create: settings and grants of the database itself. Settings that are
# lists are kept as they are written.
LIKE_THE_OLD = r"""
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'new') \gexec
SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, :'new',
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
  WHERE d.datname = :'old' AND a.grantee <> d.datdba \gexec
SELECT format('ALTER %s SET %I TO %s',
    CASE s.setrole WHEN 0 THEN format('DATABASE %I', :'new')
      ELSE format('ROLE %I IN DATABASE %I', pg_get_userbyid(s.setrole), :'new') END,
    split_part(c, '=', 1),
    CASE WHEN split_part(c, '=', 1) IN ('search_path', 'temp_tablespaces',
      'local_preload_libraries', 'session_preload_libraries')
      THEN coalesce(nullif(substr(c, strpos(c, '=') + 1), ''), quote_literal(''))
      ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END)
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
  WHERE d.datname = :'old' \gexec
"""


class RefusedError(Exception):
    """What the operator is told instead of a traceback."""


# -- names and ages of dumps ----------------------------------------------------------------------


@dataclass(frozen=True)
class Dump:
    """
    A file in the folder of dumps.

    Parameters
    ----------
    name : str
        Name of the file.
    taken : datetime.datetime
        When it was made, in UTC.
    reason : str
        The release that it was made before, or one of ``OTHER_REASONS``.
    failed : bool
        Whether that release never took traffic.
    """

    name: str
    taken: datetime
    reason: str
    failed: bool = False

    @property
    def sort(self) -> str:
        """Tell which dumps it is counted among."""
        if self.reason in OTHER_REASONS:
            return self.reason
        return "failed" if self.failed else "release"


def parse_name(name: str) -> Dump | None:
    """Read the name of a dump; None for a file that is none of ours."""
    match = NAME.fullmatch(name)
    if not match:
        return None
    try:
        taken = datetime.strptime(match[1], STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Dump(name, taken, match[2], bool(match[3]))


def stale_dumps(names: Sequence[str], kept: int, days: int, now: datetime) -> list[str]:
    """
    Choose the dumps that may go.

    Parameters
    ----------
    names : sequence of str
        Names of files. Those that are not of our own making stay.
    kept : int
        How many of each sort stay: before a release, before one that failed, before a restore,
        before a removal. With 0 none is ever removed, as none is made.
    days : int
        For how many days, today among them, the last dump of the day stays beside those.
    now : datetime.datetime
        The time, in UTC.

    Returns
    -------
    list of str
        Their names, the oldest first.
    """
    found = sorted(filter(None, map(parse_name, names)), key=lambda dump: dump.name)
    stay: set[str] = set()
    for sort in ("release", "failed", *OTHER_REASONS):
        stay |= {dump.name for dump in [d for d in found if d.sort == sort][-kept:]}
    for back in range(days):
        day = [d for d in found if d.taken.date() == (now - timedelta(days=back)).date()]
        # A dump before a release that failed stands for its day only if there is no other.
        day.sort(key=lambda dump: (not dump.failed, dump.name))
        stay |= {dump.name for dump in day[-1:]}
    return [dump.name for dump in found if dump.name not in stay] if kept > 0 else []


def age(taken: datetime, now: datetime) -> str:
    """Say how long ago something was, in the largest unit that fits."""
    seconds = max(0, int((now - taken).total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def show_size(size: int) -> str:
    """Write a number of bytes for people, in MB (of 1024 times 1024 bytes) from one on."""
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 1024:.1f} kB"


# -- tables of contents ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A line of what ``pg_restore --list`` prints."""

    line: str
    kind: str
    schema: str
    name: str
    owner: str


@dataclass
class Contents:
    """
    What ``pg_restore --list`` says of an archive.

    Parameters
    ----------
    database : str
        Name of the database that was dumped.
    major : int
        Major version of its server; 0 if that is not said.
    entries : list of Entry
        What is in it.
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
        What ``pg_restore --list`` prints.

    Returns
    -------
    Contents
        What it says.
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
    Say why an archive cannot become the database of an app.

    Parameters
    ----------
    contents : Contents
        The archive's table of contents.
    app : str
        The app's name, which its database has, too.
    major : int
        Major version of the app's Postgres.

    Returns
    -------
    str
        What is wrong and what to do; empty if nothing is.
    """
    if contents.database != app:
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
    """Tell whether all of an archive is the app's own, so that the app itself may restore it."""
    # Extensions have no owner there. The schema public belongs to whoever owns the database.
    return {entry.owner for entry in contents.entries} <= {"", app, "pg_database_owner"}


def plain_errors(text: str) -> str:
    """Shorten what a program of Postgres says to its errors, without the rows they are about."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    hidden = r"(CONTEXT|DETAIL|STATEMENT|QUERY|LINE \d+|Command was|pg_restore: (from|while)).*"
    errors = [line for line in lines if not re.match(hidden, line)]
    first = [line for line in errors if re.search(r"error|fatal", line, re.IGNORECASE)]
    return "; ".join((first or errors)[:3])[:600]


# -- programs -------------------------------------------------------------------------------------


def run(
    command: Sequence[str],
    stdin: Any = None,
    stdout: Any = subprocess.PIPE,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program; `stdin` and `stdout` are files, `text` is what it reads instead."""
    source = {"input": text} if text is not None else {"stdin": stdin or subprocess.DEVNULL}
    return subprocess.run(
        list(command),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
        **source,
    )


def docker(*arguments: str, **files: Any) -> str:
    """
    Run the command line of Docker.

    Returns
    -------
    str
        What it prints.

    Raises
    ------
    RefusedError
        With its errors, if it fails.
    """
    done = run(["docker", *arguments], **files)
    if done.returncode:
        raise RefusedError(plain_errors(done.stderr) or f"exit code {done.returncode}")
    return done.stdout or ""


def inspect(name: str) -> dict[str, Any]:
    """Describe a container; empty if there is none."""
    done = run(["docker", "container", "inspect", name])
    return json.loads(done.stdout)[0] if done.returncode == 0 else {}


def is_running(name: str) -> bool:
    """Tell whether a container runs."""
    return bool(inspect(name).get("State", {}).get("Running"))


def docker_root() -> Path:
    """Find the folder of Docker's data."""
    return Path(docker("info", "--format", "{{.DockerRootDir}}").strip() or "/var/lib/docker")


def free_bytes(folder: Path) -> int:
    """Measure the space that is free in a folder, in bytes."""
    return shutil.disk_usage(folder).free


def need_room(folder: Path, need: int, what: str) -> None:
    """Refuse what would fill a disk; `need` is in bytes."""
    free = free_bytes(folder)
    if free < need + RESERVE:
        raise RefusedError(
            f"{what} may need {show_size(need)} and leave {show_size(RESERVE)} free, and {folder} "
            f"has {show_size(free)} free. `docker system df` and `du -xh /opt/flask-vps` show what "
            "takes the space"
        )


def psql_variable(name: str, value: str | int) -> str:
    """Set a variable of psql, which writes it as a value (``:'x'``) or as a name (``:"x"``)."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"\\set {name} '{escaped}'\n"


# -- Postgres -------------------------------------------------------------------------------------


class Postgres:
    """The database of an app in its own Postgres, reached through its container."""

    kind = "postgres"

    def __init__(self, app: str) -> None:
        self.app, self.container = app, f"{app}-db-db-1"

    def check_runs(self) -> None:
        """Start a database that was stopped; refuse where there is none."""
        if not inspect(self.container):
            raise RefusedError(f"{self.app} has no database on this server. Deploy the app first")
        if not is_running(self.container):
            docker("start", self.container)
        for _ in range(120):
            ready = ["docker", "exec", self.container, "pg_isready", "-q", "-U", "postgres"]
            if run(ready).returncode == 0:
                return
            time.sleep(0.5)
        raise RefusedError(f"the database in {self.container} does not get ready; see its log")

    def sql(self, text: str, database: str = "postgres", **values: str | int) -> list[list[str]]:
        """Run SQL as the superuser, with variables of psql, and return the rows of its answers."""
        options = ["-XqAt", "--csv", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]
        text = "".join(psql_variable(name, value) for name, value in values.items()) + text
        answer = docker("exec", "-i", self.container, "psql", *options, text=text)
        return list(csv.reader(io.StringIO(answer)))

    def value(self, text: str, database: str = "postgres", **values: str | int) -> str:
        """Run SQL and return the first field of its answer; empty if there is none."""
        rows = self.sql(text, database, **values)
        return rows[0][0] if rows and rows[0] else ""

    def exists(self, name: str) -> bool:
        """Tell whether there is a database of a name."""
        return bool(self.value("SELECT 1 FROM pg_database WHERE datname = :'name'", name=name))

    def is_empty(self) -> bool:
        """Tell whether there is nothing to lose."""
        tables = (
            "SELECT 1 FROM pg_class WHERE relkind IN ('r', 'p', 'm', 'f', 'S') AND oid >= 16384"
        )
        return not self.exists(self.app) or not (
            self.value(f"{tables} LIMIT 1", self.app)
            or self.value("SELECT 1 FROM pg_largeobject_metadata LIMIT 1", self.app)
        )

    def major(self) -> int:
        """Tell the major version of the server."""
        return int(self.value("SHOW server_version_num")) // 10000

    def size(self) -> int:
        """Measure the database, in bytes."""
        return int(self.value("SELECT pg_database_size(:'app')", app=self.app))

    def names(self) -> list[tuple[str, int]]:
        """List the databases beside the app's, with their sizes in bytes."""
        rows = self.sql(
            "SELECT datname, pg_database_size(oid) FROM pg_database "
            "WHERE NOT datistemplate AND datname NOT IN ('postgres', :'app')",
            app=self.app,
        )
        return [(name, int(size)) for name, size in rows]

    def dump(self, target: Path) -> None:
        """Write a dump."""
        command = ["exec", self.container, "pg_dump", "-U", "postgres", "-Fc", "-d", self.app]
        with target.open("xb") as file:
            docker(*command, stdout=file)

    def check(self, file: Path) -> Contents:
        """
        Read a dump from its start to its end.

        Raises
        ------
        RefusedError
            If it is not whole.
        """
        command = ["exec", "-i", self.container, "pg_restore"]
        try:
            with file.open("rb") as source:
                contents = parse_contents(docker(*command, "--list", stdin=source))
            with file.open("rb") as source:
                docker(*command, "--file=/dev/null", stdin=source)
        except RefusedError as error:
            raise RefusedError(f"is not a whole dump ({error})") from error
        return contents

    def refusal(self, contents: Contents) -> str:
        """Say why a whole dump cannot be restored here; empty if it can."""
        return contents_error(contents, self.app, self.major())

    def rows(self, database: str) -> dict[str, int | None]:
        """Count the rows of each table; None where that takes too long or fails."""
        tables = self.sql(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) "
            "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1",
            database,
        )
        counted: dict[str, int | None] = {}
        for (table,) in tables:
            count = (
                "SET statement_timeout = '60s';\n"
                "SELECT format('SELECT count(*) FROM ONLY %s', :'table') \\gexec"
            )
            try:
                number = int(self.value(count, database, table=table))
            except (RefusedError, ValueError):
                number = None
            counted[table.removeprefix("public.")] = number
        return counted

    def restore(self, file: Path, contents: Contents, name: str) -> list[str]:
        """
        Restore a dump into a new database.

        Parameters
        ----------
        file : pathlib.Path
            The dump.
        contents : Contents
            Its table of contents.
        name : str
            Name of the database.

        Returns
        -------
        list of str
            What an operator should know of it.

        Raises
        ------
        RefusedError
            If anything of it fails. The database is left to `drop` then.
        """
        self._create(name)
        known = {role for (role,) in self.sql("SELECT rolname FROM pg_roles")}
        strangers = {entry.owner for entry in contents.entries} - known - {""}
        whole = ["--single-transaction", "--exit-on-error"]
        if belongs_to_app(contents, self.app) or strangers:
            # By the app's own role: what its functions do in indexes and checks is not done by
            # the superuser. Extensions alone may need that one.
            extensions = contents.named("EXTENSION") - {("-", "plpgsql")}
            first = [e for e in contents.entries if extensions and self._comes_first(e)]
            if first:
                owners = ["--no-owner"] if strangers else []
                self._pg_restore(file, name, "postgres", [*whole, *owners], first)
            for entry in first if strangers else []:
                if entry.kind == "SCHEMA":
                    change = 'ALTER SCHEMA :"schema" OWNER TO :"app"'
                    self.sql(change, name, schema=entry.name, app=self.app)
            rest = [entry for entry in contents.entries if entry not in first]
            self._pg_restore(file, name, self.app, [*whole, "--no-owner"], rest)
        else:
            self._pg_restore(file, name, "postgres", whole, contents.entries)
        self.sql("ANALYZE", name)
        self._check_restored(name, contents)
        if strangers:
            roles = ", ".join(sorted(strangers))
            return [f"This server has no role {roles}: what was theirs belongs to {self.app} now."]
        return []

    @staticmethod
    def _comes_first(entry: Entry) -> bool:
        of_extension = entry.kind == "COMMENT" and entry.name.startswith("EXTENSION ")
        return entry.kind in ("SCHEMA", "EXTENSION") or of_extension

    def _pg_restore(
        self, file: Path, name: str, user: str, options: list[str], entries: list[Entry]
    ) -> None:
        wanted = "".join(f"{entry.line}\n" for entry in entries)
        script = 'cat > "$0"'
        chosen = f"/tmp/{name}.list"  # noqa: S108  # in the container, a tmpfs of its own
        docker("exec", "-i", self.container, "sh", "-c", script, chosen, text=wanted)
        command = ["pg_restore", "-U", user, "-d", name, f"--use-list={chosen}", *options]
        try:
            with file.open("rb") as source:
                docker("exec", "-i", self.container, *command, stdin=source)
        finally:
            run(["docker", "exec", self.container, "rm", "-f", chosen])

    def _create(self, name: str) -> None:
        """Make an empty database like the app's, with its settings and grants."""
        provider, encoding, collate, ctype, locale = self.sql(
            "SELECT datlocprovider, pg_encoding_to_char(encoding), datcollate, datctype, "
            "coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', '') "
            "FROM pg_database d WHERE datname = :'app'",
            app=self.app,
        )[0]
        sort = {"i": "ICU", "b": "BUILTIN"}.get(provider, "LIBC")
        own = f" {sort}_LOCALE :'locale'" if sort != "LIBC" and locale else ""
        self.sql(
            'CREATE DATABASE :"name" OWNER :"app" TEMPLATE template0 ENCODING :\'encoding\' '
            f"LOCALE_PROVIDER {sort} LC_COLLATE :'collate' LC_CTYPE :'ctype'{own}",
            **{"name": name, "app": self.app, "encoding": encoding},
            **{"collate": collate, "ctype": ctype, "locale": locale},
        )
        self.sql(LIKE_THE_OLD, old=self.app, new=name)

    def _check_restored(self, name: str, contents: Contents) -> None:
        """Hold a restored database against its table of contents."""
        rows = self.sql(
            "SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'f')",
            name,
        )
        there = {(schema, " ".join(table.split())) for schema, table, _ in rows}
        wanted = contents.named("TABLE", "MATERIALIZED VIEW", "FOREIGN TABLE")
        missing = [
            ".".join(t) for t in sorted(wanted) if (t[0], " ".join(t[1].split())) not in there
        ]
        installed = {e for (e,) in self.sql("SELECT extname FROM pg_extension", name)}
        missing += sorted({extension for _, extension in contents.named("EXTENSION")} - installed)
        if missing:
            raise RefusedError(f"the restored copy lacks {', '.join(missing[:5])}")
        broken = self.sql(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid AND indislive "
            "AND indexrelid NOT IN (SELECT oid FROM pg_class WHERE relkind = 'I')",
            name,
        )
        if broken:
            raise RefusedError(f"the restored copy has invalid indexes: {broken[0][0]}")
        owner = self.value(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = :'name'", name=name
        )
        if owner != self.app:
            raise RefusedError(f"the restored copy belongs to {owner}")

    def forget(self, name: str) -> None:
        """Do nothing: the two names change in one step."""

    def drop(self, name: str) -> None:
        """Remove a copy."""
        self.sql('DROP DATABASE IF EXISTS :"name" WITH (FORCE)', name=name)

    def close(self) -> int:
        """
        Let nobody but the superuser into the app's database, and end the others.

        Returns
        -------
        int
            How many connections it allowed before; -1 for any number.
        """
        ask = "SELECT datconnlimit FROM pg_database WHERE datname = :'app'"
        limit = self.value(ask, app=self.app)
        self.limit(self.app, 0)
        self._end_connections(self.app)
        return int(limit)

    def limit(self, name: str, connections: int) -> None:
        """Set how many connections a database allows; no limit holds for the superuser."""
        change = 'ALTER DATABASE :"name" CONNECTION LIMIT :connections'
        self.sql(change, name=name, connections=connections)

    def _end_connections(self, *names: str) -> None:
        for name in names:
            self.sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = :'name' AND pid <> pg_backend_pid()",
                name=name,
            )

    def rename(self, away: str, back: str) -> None:
        """Call the app's database `away`, and `back` as the app, both or none."""
        for attempt in range(5):
            self._end_connections(self.app, back)
            try:
                self.sql(
                    'BEGIN; ALTER DATABASE :"app" RENAME TO :"away"; '
                    'ALTER DATABASE :"back" RENAME TO :"app"; COMMIT;',
                    **{"app": self.app, "away": away, "back": back},
                )
            except RefusedError:
                if attempt == 4:
                    raise
                time.sleep(1)
            else:
                return

    def replaced(self, stamp: str) -> str:
        """Name a database that is replaced."""
        return f"{self.app}_before_{stamp}"

    def copy(self, stamp: str) -> str:
        """Name a copy that is not in use yet."""
        return f"{self.app}_restore_{stamp}"

    def undone(self, stamp: str) -> str:
        """Name a copy that was in use."""
        return f"{self.app}_after_{stamp}"

    def how_to_drop(self, name: str) -> str:
        """Say how to remove a database that was replaced."""
        return f"docker exec {self.container} dropdb -U postgres {name}"


# -- SQLite ---------------------------------------------------------------------------------------

# Runs in a container with the app's volume and rights alone, since the app may have put anything
# there: links, or a file made to break who opens it.
SQLITE = r"""
import json, os, shutil, sqlite3, sys
what, *names = sys.argv[1:]
path = lambda name: os.path.join("/data", name)
live = path("app.db")

def regular(name):
    return os.path.isfile(name) and not os.path.islink(name)

def check(file):
    with open(file, "rb") as head:
        first = head.read(100)
    if first[:16] != b"SQLite format 3\0":
        sys.exit("is no SQLite database")
    page = int.from_bytes(first[16:18], "big")
    size = (65536 if page == 1 else page) * int.from_bytes(first[28:32], "big")
    if size > os.path.getsize(file):
        sys.exit(f"is not a whole dump: it has {os.path.getsize(file)} of {size} bytes")
    with sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True) as base:
        said = base.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if said != "ok":
        sys.exit("is not a whole dump: the integrity check failed")

def rows(file, mode):
    with sqlite3.connect(f"file:{file}?{mode}", uri=True) as base:
        tables = base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        named = sorted(n for (n,) in tables if not n.startswith("sqlite_"))
        quoted = [(n, '"' + n.replace('"', '""') + '"') for n in named]
        return {n: base.execute(f"SELECT count(*) FROM {q}").fetchone()[0] for n, q in quoted}

def sync(name):
    handle = os.open(name, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)

if what == "look":
    found = [n for n in os.listdir("/data") if n.startswith("app.db.") and regular(path(n))]
    sizes = {n: os.path.getsize(path(n)) for n in sorted(found)}
    size = sum(os.path.getsize(live + s) for s in ("", "-wal") if regular(live + s))
    print(json.dumps({"there": regular(live), "size": size, "others": sizes}))
elif what == "dump":
    copy = path(".dump")
    for old in (copy, copy + "-journal"):
        if os.path.lexists(old):
            os.unlink(old)
    source, target = sqlite3.connect(live, timeout=60), sqlite3.connect(copy)
    source.backup(target)
    target.close()
    source.close()
    with open(copy, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
    sys.stdout.flush()
    os.unlink(copy)
elif what == "check":
    check("/dump.db")
elif what == "rows":
    quiet = names[0] != "app.db"
    print(json.dumps(rows(path(names[0]), "mode=ro&immutable=1" if quiet else "mode=rw")))
elif what == "restore":
    copy = path(names[0])
    with open(copy, "xb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    check(copy)
    if regular(live):
        os.chmod(copy, os.stat(live).st_mode & 0o777)
elif what == "drop":
    for end in ("", "-wal", "-shm", "-journal"):
        if os.path.lexists(path(names[0]) + end):
            os.unlink(path(names[0]) + end)
elif what == "forget":
    # A rename that was interrupted between its two steps left a second name of the same file.
    if regular(live) and regular(path(names[0])) and os.path.samefile(live, path(names[0])):
        os.unlink(path(names[0]))
elif what == "rename":
    away, back = map(path, names)
    if os.path.exists(live):
        # Alone with it, and with all of it in its one file: what is left of its log would be taken
        # for a log of the other file.
        base = sqlite3.connect(live, timeout=30, isolation_level=None)
        for step in ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT"):
            base.execute(step)
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.link(live, away)
        os.rename(back, live)
        base.close()
    else:
        os.rename(back, live)
    for end in ("-wal", "-shm", "-journal"):
        if os.path.lexists(live + end):
            os.unlink(live + end)
    sync("/data")
"""


class Sqlite:
    """The database of an app in a file on a volume of its own."""

    kind = "sqlite"

    def __init__(self, app: str, images: Sequence[str]) -> None:
        self.app, self.images, self.volume = app, list(images), f"{app}.data"

    def check_runs(self) -> None:
        """Refuse where there is no volume."""
        if run(["docker", "volume", "inspect", self.volume]).returncode:
            raise RefusedError(f"{self.app} has no volume {self.volume}. Deploy the app first")

    def is_empty(self) -> bool:
        """Tell whether there is nothing to lose."""
        return not self._look()["there"]

    def _python(self, *arguments: str, extra: Sequence[str] = (), **files: Any) -> str:
        image = next(
            (i for i in self.images if run(["docker", "image", "inspect", i]).returncode == 0), ""
        )
        if not image:
            raise RefusedError(
                f"none of these images is on the server: {', '.join(self.images)}. Deploy first"
            )
        where = Path(
            docker("volume", "inspect", "-f", "{{.Mountpoint}}", self.volume).strip()
        ).stat()
        # The log driver would keep a copy of each dump.
        return docker(
            *("run", "--rm", "--interactive", "--network=none", "--log-driver=none", "--read-only"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--no-healthcheck", "--init"),
            "--tmpfs=/tmp",
            *(extra or [f"--user={where.st_uid}:{where.st_gid}", f"--volume={self.volume}:/data"]),
            *("--entrypoint=python3", image, "-I", "-c", SQLITE, *arguments),
            **files,
        )

    def _look(self) -> dict[str, Any]:
        return json.loads(self._python("look"))

    def exists(self, name: str) -> bool:
        """Tell whether there is a database of a name."""
        return name == SQLITE_FILE or name in self._look()["others"]

    def size(self) -> int:
        """Measure the database, in bytes."""
        return int(self._look()["size"])

    def names(self) -> list[tuple[str, int]]:
        """List the databases beside the app's, with their sizes in bytes."""
        return list(self._look()["others"].items())

    def dump(self, target: Path) -> None:
        """Write a dump."""
        need_room(docker_root(), self.size(), f"A copy of {self.app}'s database")
        with target.open("xb") as file:
            self._python("dump", stdout=file)

    def check(self, file: Path) -> Contents:
        """Read a dump from its start to its end, or refuse it."""
        # As root, who alone may read the dump, and with nothing else in reach.
        mount = ["--user=0:0", f"--mount=type=bind,source={file},target=/dump.db,readonly"]
        self._python("check", extra=mount)
        return Contents(self.app)

    def refusal(self, _contents: Contents) -> str:
        """Find nothing: a file of SQLite says neither whose it is nor what made it."""
        return ""

    def rows(self, database: str) -> dict[str, int | None]:
        """Count the rows of each table."""
        return json.loads(self._python("rows", SQLITE_FILE if database == self.app else database))

    def restore(self, file: Path, _contents: Contents, name: str) -> list[str]:
        """Restore a dump into a new file."""
        with file.open("rb") as source:
            self._python("restore", name, stdin=source)
        now, then = self.rows(self.app), self.rows(name)
        if now and not set(now) & set(then):
            raise RefusedError(
                f"holds none of the tables that {self.app} has, so it is another app's"
            )
        return []

    def forget(self, name: str) -> None:
        """Remove the second name that an interrupted `rename` has left."""
        self._python("forget", name)

    def drop(self, name: str) -> None:
        """Remove a copy."""
        self._python("drop", name)

    def close(self) -> int:
        """Do nothing: whoever had it open is stopped."""
        return -1

    def limit(self, name: str, connections: int) -> None:
        """Do nothing: files have no connections."""

    def rename(self, away: str, back: str) -> None:
        """Call the app's database `away`, and `back` as the app; the latter in one step."""
        self._python("rename", away, back)

    def replaced(self, stamp: str) -> str:
        """Name a database that is replaced."""
        return f"{SQLITE_FILE}.before_{stamp}"

    def copy(self, stamp: str) -> str:
        """Name a copy that is not in use yet."""
        return f"{SQLITE_FILE}.restore_{stamp}"

    def undone(self, stamp: str) -> str:
        """Name a copy that was in use."""
        return f"{SQLITE_FILE}.after_{stamp}"

    def how_to_drop(self, name: str) -> str:
        """Say how to remove a database that was replaced."""
        return f"rm \"$(docker volume inspect -f '{{{{.Mountpoint}}}}' {self.volume})/{name}\""


# -- what the module does -------------------------------------------------------------------------

Engine = Postgres | Sqlite


class Dumps:
    """The dumps of an app: a folder that root alone may enter."""

    def __init__(self, app: str, app_dir: Path) -> None:
        self.app, self.folder = app, app_dir / "dumps"

    def names(self) -> list[str]:
        """List the dumps, the oldest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else []
        return sorted(file.name for file in found if file.suffix == ".dump" and file.is_file())

    def describe(self, name: str, now: datetime) -> dict[str, Any]:
        """Tell what is known of a dump without reading it."""
        file = self.folder / name if "/" not in name else Path(name)
        parsed, status = parse_name(file.name), file.stat()
        taken = parsed.taken if parsed else datetime.fromtimestamp(status.st_mtime, UTC)
        return {
            "name": name,
            "taken": taken.strftime("%Y-%m-%d %H:%M:%S UTC"),
            "age": age(taken, now),
            "size": status.st_size,
            "before": parsed.reason if parsed else "",
            "failed": parsed.failed if parsed else False,
        }

    def find(self, wanted: str) -> Path:
        """Find the dump that the operator named, or refuse."""
        if wanted == "latest":
            # What was taken before a restore is what that restore was to do away with.
            own = [n for n in self.names() if (d := parse_name(n)) and d.reason != "restore"]
            if not own:
                raise RefusedError(f"dump=latest: {self.app} has no dump in {self.folder}")
            return self.folder / own[-1]
        file = Path(wanted) if wanted.startswith("/") else self.folder / wanted
        if not file.is_file():
            names = self.names()
            there = f"There are: {', '.join(reversed(names))}" if names else "There is none"
            raise RefusedError(f"dump={wanted}: there is no such dump in {self.folder}. {there}")
        other = re.match(r".*/apps/([^/]+)/dumps/[^/]+$", str(file.resolve()))
        if other and other[1] != self.app:
            raise RefusedError(f"dump={wanted}: is a dump of {other[1]}, not of {self.app}")
        return file

    def clean(self) -> list[str]:
        """Remove what dumps that did not end have left."""
        left = [f for f in self.folder.glob(".*part") if f.is_file() or f.is_symlink()]
        for file in left:
            file.unlink()
        return [file.name for file in left]

    def make(self, engine: Engine, reason: str) -> dict[str, Any]:
        """Make a dump, check it, and give it its name; what fails leaves nothing behind."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.clean()
        need_room(self.folder, self._estimate(engine), f"A dump of {self.app}'s database")
        while True:
            now = datetime.now(UTC)
            name = f"{now.strftime(STAMP)}-before-{reason}.dump"
            if not (self.folder / name).exists():
                break
            time.sleep(0.2)
        part = self.folder / f".{name}.part"
        try:
            engine.dump(part)
            engine.check(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.rename(self.folder / name)
        except (RefusedError, OSError) as error:
            raise RefusedError(
                f"The database of {self.app} could not be dumped: {error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        sync(self.folder)
        return self.describe(name, now)

    def _estimate(self, engine: Engine) -> int:
        """Estimate the size of the next dump, in bytes: at most twice the last one's."""
        size, last = engine.size(), self.names()[-1:]
        return min([size, *(2 * (self.folder / name).stat().st_size for name in last)])

    def mark(self, reason: str) -> list[str]:
        """Note in the names of dumps that the release that they were made before has failed."""
        marked = []
        for name in self.names():
            dump = parse_name(name)
            if dump and dump.sort == "release" and dump.reason == reason:
                file = self.folder / name
                file.rename(file.with_name(f"{file.stem}-failed.dump"))
                marked.append(name)
        return marked

    def prune(self, kept: int, days: int) -> list[str]:
        """Remove what is too old."""
        stale = stale_dumps(self.names(), kept, days, datetime.now(UTC))
        for name in stale:
            (self.folder / name).unlink()
        return stale


def sync(folder: Path) -> None:
    """Have the disk know of new names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Restore:
    """
    One restore, whose steps a file on the server records.

    From `swap` on the app is stopped. All of that is one call, which goes on when the controller
    that asked for it is killed.
    """

    def __init__(self, app: str, app_dir: Path, engine: Engine, dumps: Dumps) -> None:
        self.app, self.engine, self.dumps = app, engine, dumps
        self.file = app_dir / "restore.json"

    @staticmethod
    def read_file(app_dir: Path) -> dict[str, Any]:
        """Read the record of an app's restore; empty if none is going on."""
        try:
            return json.loads((app_dir / "restore.json").read_text())
        except FileNotFoundError:
            return {}

    def read(self) -> dict[str, Any]:
        """Read the record; empty if no restore is going on."""
        return self.read_file(self.file.parent)

    def write(self, **changed: Any) -> dict[str, Any]:
        """Change the record, and have the disk know."""
        record = {**self.read(), **changed}
        fresh = self.file.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(record, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.file)
        sync(self.file.parent)
        return record

    def examine(self, wanted: str) -> dict[str, Any]:
        """Refuse a dump that cannot be restored, before anything is done."""
        now = datetime.now(UTC)
        self.engine.check_runs()
        if re.fullmatch(r".+_(before|after)_\d{8}t\d{6}z", wanted):
            sizes = dict(self.engine.names())
            if wanted not in sizes:
                there = ", ".join(n for n in sizes if re.search("_(before|after)_", n)) or "none"
                raise RefusedError(f"dump={wanted}: there is no such database. There are: {there}")
            stamp = wanted.rpartition("_")[2].upper()
            taken = datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
            return {
                "name": wanted,
                "taken": taken.strftime("%Y-%m-%d %H:%M:%S UTC"),
                "age": age(taken, now),
                "size": sizes[wanted],
                "before": "restore",
                "failed": False,
                "database": True,
            }
        file = self.dumps.find(wanted)
        try:
            contents = self.engine.check(file)
        except RefusedError as error:
            raise RefusedError(f"dump={wanted}: {file.name} {error}") from error
        if refusal := self.engine.refusal(contents):
            raise RefusedError(f"dump={wanted}: {file.name} {refusal}")
        name = file.name if file.parent == self.dumps.folder else str(file)
        return {**self.dumps.describe(name, now), "database": False}

    def prepare(self, wanted: str) -> dict[str, Any]:
        """Restore a dump beside the database in use."""
        dump = self.examine(wanted)
        stamp = datetime.now(UTC).strftime(STAMP).lower()
        copy = dump["name"] if dump["database"] else self.engine.copy(stamp)
        self.write(
            **{"stage": "prepared", "kind": self.engine.kind, "dump": dump["name"], "copy": copy},
            **{"made": not dump["database"], "kept": self.engine.replaced(stamp), "stamp": stamp},
        )
        said: list[str] = []
        try:
            if not dump["database"]:
                file = self.dumps.find(wanted)
                size = self.engine.size()
                need = max(size, 3 * dump["size"]) * 3 // 2 + min(size, 2 * dump["size"])
                need_room(docker_root(), need, f"Restoring {file.name} beside the database in use")
                try:
                    said = self.engine.restore(file, self.engine.check(file), copy)
                except RefusedError as error:
                    raise RefusedError(f"{file.name} could not be restored: {error}") from error
            now, then = self._rows(self.app), self._rows(copy)
        except BaseException:
            self.abandon()
            raise
        tables = [
            {"table": t, "now": now.get(t, "-"), "dump": then.get(t, "-")}
            for t in sorted({*now, *then})
        ]
        return {"dump": dump, "tables": tables, "lines": [*said, *table_lines(tables)]}

    def _rows(self, database: str) -> dict[str, Any]:
        # A database that is broken is a reason for a restore, and no obstacle.
        with suppress(RefusedError):
            return {t: "?" if n is None else n for t, n in self.engine.rows(database).items()}
        return {}

    def abandon(self) -> None:
        """Remove a copy that is not used."""
        record = self.read()
        if record.get("made") and record["copy"] == self.engine.copy(record["stamp"]):
            self.engine.drop(record["copy"])
        self.file.unlink(missing_ok=True)

    def swap(self, undumped: bool) -> dict[str, Any]:
        """Stop the app, dump its database, give the copy its name, start the app."""
        record = self.read()
        if record.get("stage") != "prepared":
            raise RefusedError("there is no restored copy to take into use")
        if is_running(f"{self.app}-init"):
            raise RefusedError(
                f"a release command of {self.app} still runs; try again when it has ended"
            )
        running = containers(self.app)
        # A job has its own end, and nobody starts it again.
        again = [c["name"] for c in running if not c["job"]]
        record = self.write(stage="stopped", containers=again, limit=-1)
        dump: dict[str, Any] = {}
        swapped = False
        try:
            stop([c["name"] for c in running])
            record = self.write(limit=self.engine.close())
            self.engine.limit(self.app, 0)
            try:
                dump = self.dumps.make(self.engine, "restore")
            except RefusedError as error:
                if not undumped:
                    hint = "Make room, or say -e undumped=true: what is replaced is kept as it is"
                    raise RefusedError(f"{error}. {hint}") from error
            self.engine.rename(record["kept"], record["copy"])
            swapped = True
            self.engine.limit(self.app, record["limit"])
            self.write(stage="swapped")
            start(again)
        except BaseException:
            if swapped:
                self.undo()
            else:
                self.recover()
            raise
        return {"kept": record["kept"], "dump": dump, "started": again}

    def undo(self) -> list[str]:
        """Take a swap back. What was in use meanwhile is kept, too."""
        record = self.read()
        stop([c["name"] for c in containers(self.app)])
        self.engine.close()
        self.engine.rename(self.engine.undone(record["stamp"]), record["kept"])
        self.engine.limit(self.app, record["limit"])
        start(record["containers"])
        self.file.unlink(missing_ok=True)
        return record["containers"]

    def recover(self) -> dict[str, Any]:
        """Finish or take back what an interrupted run has left."""
        record = self.read()
        stage = record.get("stage", "")
        if not stage:
            return {"interrupted": "", "lines": [], "started": []}
        self.engine.check_runs()
        if stage == "prepared":
            self.abandon()
            text = "An earlier restore ended before it changed anything. Its copy was removed."
            return {"interrupted": stage, "lines": [text], "started": []}
        # The copy has its name until it takes the app's, in one step.
        swapped = not self.engine.exists(record["copy"])
        self.engine.limit(self.app, record["limit"])
        if swapped:
            text = (
                f"An earlier restore of {record['dump']} was interrupted, and is finished now. "
                f"What it replaced is kept as {record['kept']}."
            )
        else:
            self.engine.forget(record["kept"])
            text = "An earlier restore was interrupted while the app was stopped. It is taken back."
        start(record["containers"])
        if swapped:
            self.file.unlink(missing_ok=True)
        else:
            self.abandon()
        stage = "swapped" if swapped else "stopped"
        return {"interrupted": stage, "lines": [text], "started": record["containers"]}


def table_lines(tables: Sequence[dict[str, Any]]) -> list[str]:
    """Write counts of rows as lines for a person."""
    rows = [("TABLE", "ROWS NOW", "ROWS IN THE DUMP")]
    rows += [(t["table"], str(t["now"]), str(t["dump"])) for t in tables]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{table.ljust(widths[0])}  {now.rjust(widths[1])}  {then.rjust(widths[2])}"
        for table, now, then in rows
    ]


def containers(app: str) -> list[dict[str, Any]]:
    """List the running containers of an app's releases: those with requests first."""
    names = docker("ps", "--quiet", "--filter", f"label=flask-vps.app={app}").split()
    if not names:
        return []
    found = json.loads(run(["docker", "inspect", *names]).stdout or "[]")
    listed = [
        {
            "name": container["Name"].lstrip("/"),
            "job": container["Config"]["Labels"].get("com.docker.compose.oneoff") == "True",
            "service": container["Config"]["Labels"].get("com.docker.compose.service", ""),
        }
        for container in found
        if container["Config"]["Labels"].get("flask-vps.release")
    ]
    return sorted(listed, key=lambda c: (c["service"] not in ("relay", "web"), c["name"]))


def stop(names: Sequence[str]) -> None:
    """Let containers end as their release does: each with its own time for what it has begun."""
    if names:
        # A job removes its container itself, perhaps just now.
        done = run(["docker", "stop", *names])
        left = [name for name in names if is_running(name)]
        if left:
            raise RefusedError(f"{', '.join(left)} did not stop: {plain_errors(done.stderr)}")


def start(names: Sequence[str]) -> None:
    """Start containers again."""
    if names:
        docker("start", *names)


@contextmanager
def alone(app_dir: Path) -> Iterator[None]:
    """Wait for a run that outlived its controller; the kernel ends this with the process."""
    with (app_dir / ".restore.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def last_release(app_dir: Path) -> dict[str, Any]:
    """Read the record of the release that was in service last; empty if none was."""
    found = []
    for file in (app_dir / "releases").glob("*/release.json"):
        with suppress(OSError, ValueError):
            record = json.loads(file.read_text())
            if record.get("in_service"):
                found.append(record)
    return max(found, key=lambda record: record["in_service"][-1], default={})


def find_engine(app: str, app_dir: Path, kind: str, images: Sequence[str] = ()) -> Engine | None:
    """
    Find the database of an app.

    Parameters
    ----------
    app : str
        The app's name.
    app_dir : pathlib.Path
        Its folder.
    kind : str
        As the module's option of the same name. With ``found`` the server decides, whatever the
        app's entry says.
    images : sequence of str, optional
        Images with Python, beside those of the release that was in service last.

    Returns
    -------
    Postgres, Sqlite or None
        None if it has none of ours.
    """
    record = last_release(app_dir)
    if kind == "found":
        kind = record.get("entry", {}).get("database", "none")
        kind = "postgres" if inspect(f"{app}-db-db-1") else kind
    if kind == "postgres":
        return Postgres(app)
    if kind != "sqlite":
        return None
    own = f"flask-vps/{app}:{record['id']}" if record else ""
    return Sqlite(app, list(filter(None, [*images, record.get("python_image"), own])))


class Work:
    """What each state of the module does."""

    def __init__(self, options: dict[str, Any], check_mode: bool) -> None:
        self.options, self.check_mode = options, check_mode
        self.dir = Path(options["dir"])
        self.dumps = Dumps(options["app"], self.dir)

    @cached_property
    def engine(self) -> Engine | None:
        """The app's database."""
        o = self.options
        return find_engine(o["app"], self.dir, o["kind"], o["images"])

    @property
    def restore(self) -> Restore:
        """The restore of this app, or a refusal."""
        if self.engine is None:
            raise RefusedError(f"{self.options['app']} has no database of ours on this server")
        return Restore(self.options["app"], self.dir, self.engine, self.dumps)

    def dumped(self) -> dict[str, Any]:
        """Make a dump if there is anything to dump."""
        if self.engine is None or not self.dir.is_dir():
            return {"changed": False, "dump": {}}
        if self.check_mode:
            return {"changed": True, "dump": {}}
        try:
            self.engine.check_runs()
            if self.engine.is_empty():
                return {"changed": False, "dump": {}}
            return {"changed": True, "dump": self.dumps.make(self.engine, self.options["reason"])}
        except RefusedError as error:
            if self.options["reason"] != "removal":
                raise
            hint = "Nothing was removed. To remove it without a dump: -e app_dumps_kept=0"
            raise RefusedError(f"{error}. {hint}") from error

    def listed(self) -> dict[str, Any]:
        """List what can be restored."""
        now = datetime.now(UTC)
        dumps = [self.dumps.describe(name, now) for name in reversed(self.dumps.names())]
        databases = []
        with suppress(RefusedError):
            for name, size in self.engine.names() if self.engine else []:
                if re.search(r"_(before|after)_\d{8}t\d{6}z$", name):
                    drop = self.engine.how_to_drop(name)
                    databases.append({"name": name, "size": size, "drop": drop})
        found = {"dumps": dumps, "databases": databases}
        return {"changed": False, **found, "lines": list_lines(dumps, databases)}

    def marked(self) -> dict[str, Any]:
        """Note that a release failed."""
        return {"changed": not self.check_mode and bool(self.dumps.mark(self.options["reason"]))}

    def pruned(self) -> dict[str, Any]:
        """Remove what is too old, and what is only part of a dump."""
        if self.check_mode:
            return {"changed": False, "removed": []}
        for release in self.options["failed"]:
            self.dumps.mark(release)
        removed = self.dumps.clean() + self.dumps.prune(self.options["kept"], self.options["days"])
        return {"changed": bool(removed), "removed": removed}

    def examined(self) -> dict[str, Any]:
        """Refuse what cannot be restored."""
        dump = self.restore.examine(self.options["dump"])
        return {"changed": False, "dump": dump}

    def prepared(self) -> dict[str, Any]:
        """Restore a dump beside the database in use."""
        with alone(self.dir):
            self.dumps.clean()
            return {"changed": True, **self.restore.prepare(self.options["dump"])}

    def abandoned(self) -> dict[str, Any]:
        """Remove the copy."""
        with alone(self.dir):
            self.restore.abandon()
        return {"changed": True}

    def swapped(self) -> dict[str, Any]:
        """Take the copy into use."""
        with alone(self.dir):
            return {"changed": True, **self.restore.swap(self.options["undumped"])}

    def returned(self) -> dict[str, Any]:
        """Take the database from before into use again."""
        with alone(self.dir):
            return {"changed": True, "started": self.restore.undo()}

    def settled(self) -> dict[str, Any]:
        """Forget the way back."""
        self.restore.file.unlink(missing_ok=True)
        return {"changed": False}

    def recovered(self) -> dict[str, Any]:
        """Finish or take back what an interrupted restore has left."""
        nothing = {"changed": False, "interrupted": "", "lines": [], "started": []}
        record = Restore.read_file(self.dir)
        if not record:
            return nothing
        if self.check_mode:
            return {**nothing, "lines": ["An earlier restore was interrupted."]}
        # Whatever the entry says by now.
        self.options["kind"] = record.get("kind", "found")
        with alone(self.dir):
            # The run that had it may have ended it by itself meanwhile.
            found = self.restore.recover()
        return {"changed": bool(found["interrupted"]), **found}


def list_lines(dumps: Sequence[dict[str, Any]], databases: Sequence[dict[str, Any]]) -> list[str]:
    """Write what can be restored as lines for a person."""
    rows = [("DUMP", "TAKEN (UTC)", "AGE", "SIZE", "BEFORE")]
    for dump in dumps:
        before = dump["before"] or "-"
        if before not in (*OTHER_REASONS, "-"):
            before = f"release {before}{', which failed' if dump['failed'] else ''}"
        taken = dump["taken"].removesuffix(" UTC")
        rows.append((dump["name"], taken, dump["age"], show_size(dump["size"]), before))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    replaced = [
        f"Replaced by a restore: {d['name']} ({show_size(d['size'])}). "
        f"To return to it: -e dump={d['name']}. To remove it, on the server: {d['drop']}"
        for d in databases
    ]
    return ([line.rstrip() for line in lines] if dumps else ["There are no dumps."]) + replaced


def main() -> None:
    """Run the module."""
    states = [name for name in vars(Work) if name.endswith("ed") and not name.startswith("_")]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": states, "required": True},
            "app": {"type": "str", "required": True},
            "dir": {"type": "path", "required": True},
            "kind": {
                "type": "str",
                "choices": ["postgres", "sqlite", "none", "found"],
                "default": "found",
            },
            "images": {"type": "list", "elements": "str", "default": []},
            "reason": {"type": "str", "default": ""},
            "dump": {"type": "str", "default": "latest"},
            "kept": {"type": "int", "default": 5},
            "days": {"type": "int", "default": 7},
            "failed": {"type": "list", "elements": "str", "default": []},
            "undumped": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    try:
        work = Work(module.params, module.check_mode)
        state: Callable[[], dict[str, Any]] = getattr(work, module.params["state"])
        module.exit_json(**state())
    except RefusedError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
