"""Find out which database an app has on a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.docker_cli import inspect
from ansible.module_utils.names import Names
from ansible.module_utils.postgres_database import Postgres
from ansible.module_utils.releases import read_record
from ansible.module_utils.sqlite_database import Sqlite

Engine = Postgres | Sqlite


def last_release(app_dir: Path) -> dict[str, Any]:
    """Read the record of the release that was in service last; empty if none was."""
    records = map(read_record, (app_dir / "releases").glob("*"))
    served = [record for record in records if record.get("in_service")]
    return max(served, key=lambda record: record["in_service"][-1], default={})


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
        Images with Python, in addition to those of the release that was in service last.

    Returns
    -------
    Postgres, Sqlite or None
        None if it has no database of this project.
    """
    record = last_release(app_dir)
    if kind == "found":
        kind = record.get("entry", {}).get("database", "none")
        kind = "postgres" if inspect(Names(app).database) else kind
    if kind == "postgres":
        return Postgres(app)
    if kind != "sqlite":
        return None
    own = Names(app).image(record["id"]) if record else ""
    return Sqlite(app, list(filter(None, [*images, record.get("python_image"), own])))
