"""Restores lose no data, even from a damaged dump or after a killed run."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Site

ROOT = Path(__file__).parents[3]
APP = "my_flask_webpage"
FOLDER = f"/opt/flask-vps/apps/{APP}"
DATABASE = f"{APP}-db-db-1"
# Enough rows that pg_dump has to wait for its reader.
ROWS = 5000


def ansible(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Ansible with this server's inventories."""
    inventories = [f"--inventory={path}" for path in os.environ["SITE_INVENTORIES"].split(",")]
    return subprocess.run(
        [*command, *inventories], cwd=ROOT, capture_output=True, text=True, check=False
    )


def restore(dump: str) -> subprocess.CompletedProcess[str]:
    """Restore a dump without confirmation."""
    options = ["-e", f"app={APP}", "-e", f"dump={dump}", "-e", "yes=true"]
    return ansible("ansible-playbook", "playbooks/restore.yml", *options)


def sql(site: Site, text: str, database: str = APP, user: str = "postgres") -> str:
    """Run SQL in the app's Postgres."""
    options = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-c", text]
    return site.on_server("docker", "exec", DATABASE, "psql", *options).strip()


def databases(site: Site) -> set[str]:
    """List all databases."""
    return set(sql(site, "SELECT datname FROM pg_database").split())


def dumps(site: Site) -> set[str]:
    """List the files in the folder of dumps."""
    return set(site.on_server("ls", "-A", f"{FOLDER}/dumps").split())


def count(site: Site, database: str = APP) -> int:
    """Count the rows of the test's table."""
    return int(sql(site, "SELECT count(*) FROM stake", database))


class Writer:
    """Stores rows as the app does, one after the other, until it is stopped or refused."""

    def __init__(self, site: Site) -> None:
        self.site, self.acknowledged, self.ended = site, 0, threading.Event()
        self.thread = threading.Thread(target=self.write)

    def write(self) -> None:
        while not self.ended.wait(0.3):
            try:
                row = "INSERT INTO stake (text) VALUES ('while') RETURNING 1"
                # Counts rows stored before the app was stopped, or after the databases' swap.
                self.acknowledged += int(sql(self.site, row, user=APP))
            except AssertionError:
                return

    def __enter__(self) -> "Writer":
        """Start to store rows."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the last row."""
        self.ended.set()
        self.thread.join()


@pytest.fixture(scope="module")
def dump(site: Site) -> Iterator[str]:
    """Give the app a table, dump its database, and leave the server as it was."""
    had = (databases(site), dumps(site))
    sql(site, "CREATE TABLE stake (id serial PRIMARY KEY, text text)", user=APP)
    fill = "INSERT INTO stake (text) SELECT md5(n::text) FROM generate_series(1, %d) n"
    sql(site, fill % ROWS)
    options = f"state=dumped kind=postgres app={APP} dir={FOLDER} reason=000000000000"
    done = ansible("ansible", "servers", "--become", "-m", "database", "-a", options)
    assert done.returncode == 0, done.stdout
    (made,) = (name for name in dumps(site) - had[1])
    yield made
    sql(site, "DROP TABLE IF EXISTS later, stake CASCADE")
    for name in databases(site) - had[0]:
        site.on_server("docker", "exec", DATABASE, "dropdb", "-U", "postgres", "--force", name)
    for name in dumps(site) - had[1]:
        site.on_server("rm", f"{FOLDER}/dumps/{name}")


@pytest.fixture(scope="module")
def truncated(site: Site, dump: str) -> str:
    """Cut off the end of the dump, as a full disk does."""
    name = "20260101T000000Z-before-111111111111.dump"
    cut = 'head -c "$(($(stat -c %s "$1") * 3 / 4))" "$1" > "$2"'
    path = f"{FOLDER}/dumps"
    site.on_server("sh", "-c", cut, "cut", f"{path}/{dump}", f"{path}/{name}")
    return name


def test_the_naive_way_loses_rows(site: Site, dump: str, truncated: str) -> None:
    """Negative control, in a separate database: the way that was documented before."""
    site.on_server("docker", "exec", DATABASE, "createdb", "-U", "postgres", "scratch")
    read = 'docker exec -i "$1" pg_restore -U postgres -d scratch $3 < "$2"; true'
    for name, options in ((dump, ""), (truncated, "--clean --if-exists")):
        path = f"{FOLDER}/dumps/{name}"
        if options:
            assert count(site, "scratch") == ROWS
        site.on_server("sh", "-c", read, "read", DATABASE, path, options)
    assert count(site, "scratch") < ROWS


def test_a_truncated_dump_is_refused_with_all_rows_kept(site: Site, truncated: str) -> None:
    before, there = count(site), databases(site)
    done = restore(truncated)
    assert done.returncode != 0
    assert "is not a whole dump" in done.stdout, done.stdout
    assert count(site) == before
    assert databases(site) == there
    assert site.request("/").status == 200


def test_a_restore_keeps_what_was_stored_since_the_dump(site: Site, dump: str) -> None:
    sql(site, "CREATE TABLE later (stake int REFERENCES stake (id))", user=APP)
    sql(site, "INSERT INTO later SELECT id FROM stake LIMIT 9", user=APP)
    site.on_server("touch", f"{FOLDER}/dumps/.part")
    there, lay = databases(site), dumps(site)
    with Writer(site) as writer:
        done = restore(dump)
    assert done.returncode == 0, done.stdout
    assert "It will replace the database" in done.stdout

    (kept,) = databases(site) - there
    assert kept.startswith(f"{APP}_before_")
    assert writer.acknowledged > 0
    stored = "SELECT count(*) FROM stake WHERE text = 'while'"
    kept_rows, new_rows = (int(sql(site, stored, name)) for name in (kept, APP))
    # Each acknowledged row is in one of the two; the last one may be stored unacknowledged.
    assert writer.acknowledged <= kept_rows + new_rows <= writer.acknowledged + 1
    assert kept_rows > 0
    assert count(site) == ROWS + new_rows
    assert sql(site, "SELECT to_regclass('later')") == ""
    assert sql(site, "SELECT count(*) FROM later", kept) == "9"
    # The replaced database was dumped as well, after the app was stopped.
    (made,) = dumps(site) - lay
    assert made.endswith("-before-restore.dump")
    assert ".part" not in dumps(site)
    mode = site.on_server("stat", "-c", "%a %U", f"{FOLDER}/dumps/{made}", f"{FOLDER}/dumps")
    assert mode.split() == ["600", "root", "700", "root"]
    assert site.request("/").status == 200


def test_a_killed_restore_is_taken_back_and_the_replaced_database_returns(site: Site) -> None:
    kept = max(name for name in databases(site) if name.startswith(f"{APP}_before_"))
    # The state that a run leaves if it is killed while the app is stopped.
    (web,) = (name for name in site.containers() if name.startswith(f"{APP}-") and "-web-" in name)
    stamp = "20260101t000000z"
    record = {
        **{"stage": "stopped", "kind": "postgres", "dump": "x.dump", "made": True, "limit": -1},
        **{"copy": f"{APP}_restore_{stamp}", "kept": f"{APP}_before_{stamp}", "stamp": stamp},
        "containers": [web],
    }
    site.on_server("sh", "-c", 'printf %s "$1" > "$2"', "write", json.dumps(record),
                   f"{FOLDER}/restore.json")  # fmt: skip
    site.on_server("docker", "exec", DATABASE, "createdb", "-U", "postgres", record["copy"])
    site.on_server("docker", "stop", web)
    sql(site, f"ALTER DATABASE {APP} CONNECTION LIMIT 0", "postgres")

    done = restore(kept)
    assert done.returncode == 0, done.stdout
    assert "It is undone now" in done.stdout
    assert record["copy"] not in databases(site)
    assert sql(site, "SELECT count(*) FROM later") == "9"
    limit = "SELECT datconnlimit FROM pg_database WHERE datname = current_database()"
    assert sql(site, limit) == "-1"
    assert site.request("/").status == 200
