"""The database of an app in its own Postgres container."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

from ansible.module_utils.docker_cli import RefusedError, docker, inspect, is_running, run
from ansible.module_utils.names import Names
from ansible.module_utils.postgres_archive import (
    Contents,
    Entry,
    belongs_to_app,
    contents_error,
    parse_contents,
)

# Copies the settings and grants of the database itself, which pg_dump omits without --create.
# Settings that are lists are copied literally.
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


def psql_variable(name: str, value: str | int) -> str:
    """Set a variable of psql, which SQL uses as a value (``:'x'``) or as a name (``:"x"``)."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"\\set {name} '{escaped}'\n"


class Postgres:
    """The database of an app in its own Postgres, reached through its container."""

    kind = "postgres"

    def __init__(self, app: str) -> None:
        self.app, self.container = app, Names(app).database

    def check_runs(self, start: bool = True) -> None:
        """Start a stopped database if that is allowed; refuse if there is none."""
        if not inspect(self.container):
            raise RefusedError(f"{self.app} has no database on this server. Deploy the app first")
        if not is_running(self.container):
            if not start:
                raise RefusedError(
                    f"{self.container} does not run. Check mode does not start it. On the server: "
                    f"docker start {self.container}"
                )
            docker("start", self.container)
        for _ in range(120):
            ready = ["docker", "exec", self.container, "pg_isready", "-q", "-U", "postgres"]
            if run(ready).returncode == 0:
                return
            time.sleep(0.5)
        raise RefusedError(f"the database in {self.container} does not become ready; see its log")

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
        """Tell whether a database exists."""
        return bool(self.value("SELECT 1 FROM pg_database WHERE datname = :'name'", name=name))

    def is_empty(self) -> bool:
        """Tell whether the database has no content."""
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
        # The lock of a table may never be released.
        patience = "--lock-wait-timeout=60s"
        command = ["exec", self.container, "pg_dump", "-U", "postgres", patience, "-Fc"]
        command += ["-d", self.app]
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
            said = {
                "unsupported version": "was made by a newer version of Postgres",
                "text format dump": "is SQL text, not an archive of pg_dump -Fc",
            }
            wrong = next((w for s, w in said.items() if s in str(error)), "is not a whole dump")
            raise RefusedError(f"{wrong} ({error})") from error
        return contents

    def refusal(self, contents: Contents) -> str:
        """Return why a complete dump cannot be restored here; empty if it can."""
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
            Notes for the operator.

        Raises
        ------
        RefusedError
            If any part fails. The caller has to `drop` the database then.
        """
        self._create(name)
        known = {role for (role,) in self.sql("SELECT rolname FROM pg_roles")}
        strangers = {entry.owner for entry in contents.entries} - known - {""}
        whole = ["--single-transaction", "--exit-on-error"]
        if belongs_to_app(contents, self.app) or strangers:
            # Restored by the app's own role, so that functions in indexes and checks do not run as
            # the superuser. Only extensions may need the superuser.
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
        # Last, because a setting may make the database read-only.
        self.sql(LIKE_THE_OLD, old=self.app, new=name)
        self._check_restored(name, contents)
        if strangers:
            roles = ", ".join(sorted(strangers))
            return [f"This server has no role {roles}: {self.app} owns their objects now."]
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
        """Make an empty database with the encoding and locale of the app's."""
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

    def _check_restored(self, name: str, contents: Contents) -> None:
        """Compare a restored database with its table of contents."""
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
        """Do nothing: both names change in one step."""

    def drop(self, name: str) -> None:
        """Remove a copy."""
        self.sql('DROP DATABASE IF EXISTS :"name" WITH (FORCE)', name=name)

    def connections(self) -> int:
        """Return the connection limit of the app's database; -1 for no limit."""
        ask = "SELECT datconnlimit FROM pg_database WHERE datname = :'app'"
        return int(self.value(ask, app=self.app))

    def close(self) -> None:
        """End all connections to the app's database, and allow only the superuser to connect."""
        self.limit(self.app, 0)
        self._end_connections(self.app)

    def limit(self, name: str, connections: int) -> None:
        """Set the connection limit of a database, which does not apply to the superuser."""
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
        """Rename the app's database to `away`, and `back` to the app's name, both or neither."""
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
        """Return the name for a replaced database."""
        return f"{self.app}_before_{stamp}"

    def copy(self, stamp: str) -> str:
        """Return the name for a copy that is not in use yet."""
        return f"{self.app}_restore_{stamp}"

    def undone(self, stamp: str) -> str:
        """Return the name for a copy that was in use and undone."""
        return f"{self.app}_after_{stamp}"

    def how_to_drop(self, name: str) -> str:
        """Return the command that removes a replaced database."""
        return f"docker exec {self.container} dropdb -U postgres {name}"
