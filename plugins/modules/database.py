#!/usr/bin/python
"""Ansible module: dump an app's database, prune its dumps, and restore one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.database_engines import Engine, find_engine, last_release
from ansible.module_utils.database_restore import Restore, alone
from ansible.module_utils.docker_cli import RefusedError
from ansible.module_utils.dump_folder import Dumps
from ansible.module_utils.dumps import OTHER_REASONS, REPLACED, show_size
from ansible.module_utils.sqlite_files import SqliteFiles

DOCUMENTATION = r"""
module: database
short_description: Dump and restore the database of an app
description:
  - O(state=dumped) makes a dump and checks it. A dump gets its final name once it is complete.
    SQLite files in other volumes of the app are dumped, too, into an archive of their own.
  - O(state=listed) lists the dumps, and the databases that a restore replaced.
  - O(state=pruned) notes which releases failed, and removes old dumps.
  - O(state=examined) fails if a dump cannot be restored.
  - O(state=prepared) restores a dump into a copy beside the database in use.
  - O(state=swapped) stops the app, dumps its database, puts the copy in its place, and starts the
    app. O(state=returned) undoes this, and O(state=settled) makes it final.
  - O(state=recovered) finishes or undoes a restore that was interrupted.
options:
  state:
    description: What to do.
    type: str
    required: true
    choices: [dumped, listed, pruned, examined, prepared, swapped, returned, settled, recovered]
  app:
    description: The app's name.
    type: str
    required: true
  dir:
    description: The app's folder on the server.
    type: path
    required: true
  kind:
    description: Kind of the database. V(found) looks on the server.
    type: str
    choices: [postgres, sqlite, none, found]
    default: found
  images:
    description:
      - Images with Python that can open an SQLite database, in addition to the images of the last
        release in service. The first one on the server is used.
    type: list
    elements: str
    default: []
  reason:
    description: For O(state=dumped), the id of the next release or another reason for the dump.
    type: str
    default: ""
  dump:
    description:
      - The dump to restore, as a file name in the folder of dumps, a path on the server,
        V(latest), or the name of a database that a restore replaced.
    type: str
    default: latest
  kept:
    description: For O(state=pruned), how many dumps of each kind to keep.
    type: int
    default: 5
  days:
    description: For O(state=pruned), for how many days to keep the last dump of each day as well.
    type: int
    default: 7
  failed:
    description: For O(state=pruned), ids of releases that never took traffic.
    type: list
    elements: str
    default: []
  undumped:
    description: For O(state=swapped), whether to go on if the database in use cannot be dumped.
    type: bool
    default: false
author: flask-vps maintainers
notes:
  - Uses the command line of Docker, which every version of the engine has.
"""

EXAMPLES = r"""
- name: Dump the database
  database:
    state: dumped
    app: shop
    dir: /opt/flask-vps/apps/shop
    reason: 0123456789ab
"""

RETURN = r"""
dump:
  description: The dump that was made, examined or restored.
  type: dict
  returned: when O(state) is V(dumped), V(examined), V(prepared) or V(swapped)
archive:
  description: The dump of SQLite files in other volumes; empty if there are none.
  type: dict
  returned: when O(state) is V(dumped)
dumps:
  description: All dumps, the latest first.
  type: list
  elements: dict
  returned: when O(state) is V(listed)
databases:
  description: Databases that restores replaced.
  type: list
  elements: dict
  returned: when O(state) is V(listed)
removed:
  description: Names of the dumps that were removed.
  type: list
  elements: str
  returned: when O(state) is V(pruned)
tables:
  description: Number of rows of each table, in the database and in the dump.
  type: list
  elements: dict
  returned: when O(state) is V(prepared)
lines:
  description: Lines to show to the operator.
  type: list
  elements: str
  returned: when O(state) is V(listed), V(prepared) or V(recovered)
page:
  description: Whether an interrupted restore left its maintenance page.
  type: bool
  returned: when O(state) is V(recovered)
interrupted:
  description: Step at which the last restore was interrupted, or an empty string.
  type: str
  returned: when O(state) is V(recovered)
kept:
  description: Name of the database that was replaced.
  type: str
  returned: when O(state) is V(swapped) or V(returned)
started:
  description: Containers that were started again.
  type: list
  elements: str
  returned: when O(state) is V(swapped), V(returned) or V(recovered)
"""


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
        """The restore of this app; refused if it has no database here."""
        if self.engine is None:
            raise RefusedError(
                f"{self.options['app']} has no database of this project on this server"
            )
        return Restore(self.options["app"], self.dir, self.engine, self.dumps)

    @cached_property
    def files(self) -> SqliteFiles:
        """The SQLite files in the app's volumes."""
        app, record = self.options["app"], last_release(self.dir)
        own = f"flask-vps/{app}:{record['id']}" if record else ""
        images = [*self.options["images"], str(record.get("python_image") or ""), own]
        return SqliteFiles(app, images, self.engine.kind if self.engine else "none")

    def dumped(self) -> dict[str, Any]:
        """Make dumps of all that there is to dump."""
        nothing: dict[str, Any] = {"changed": False, "dump": {}, "archive": {}}
        if not self.dir.is_dir():
            return nothing
        if self.check_mode:
            return {**nothing, "changed": self.engine is not None}
        dump, reason = {}, self.options["reason"]
        try:
            if self.engine is not None:
                self.engine.check_runs()
                if not self.engine.is_empty():
                    dump = self.dumps.make(self.engine, reason)
            archive = self.dumps.make_archive(self.files, reason)
            return {"changed": bool(dump or archive), "dump": dump, "archive": archive}
        except RefusedError as error:
            if reason != "removal":
                raise
            hint = "Nothing was removed. To remove it without a dump: -e app_dumps_kept=0"
            raise RefusedError(f"{error}. {hint}") from error

    def listed(self) -> dict[str, Any]:
        """List what can be restored."""
        now = datetime.now(UTC)
        names = sorted([*self.dumps.names(), *self.dumps.archives()], reverse=True)
        dumps = [self.dumps.describe(name, now) for name in names]
        databases = []
        with suppress(RefusedError):
            for name, size in self.engine.names() if self.engine else []:
                if REPLACED.fullmatch(name):
                    drop = self.engine.how_to_drop(name)
                    databases.append({"name": name, "size": size, "drop": drop})
        found = {"dumps": dumps, "databases": databases}
        return {"changed": False, **found, "lines": list_lines(dumps, databases)}

    def pruned(self) -> dict[str, Any]:
        """Remove old dumps, and partial ones."""
        if self.check_mode:
            return {"changed": False, "removed": []}
        for release in self.options["failed"]:
            self.dumps.mark(release)
        removed = self.dumps.clean() + self.dumps.prune(self.options["kept"], self.options["days"])
        return {"changed": bool(removed), "removed": removed}

    def examined(self) -> dict[str, Any]:
        """Refuse a dump that cannot be restored."""
        dump = self.restore.examine(self.options["dump"], start=not self.check_mode)
        return {"changed": False, "dump": dump}

    def prepared(self) -> dict[str, Any]:
        """Restore a dump beside the database in use."""
        with alone(self.dir):
            self.dumps.clean()
            return {"changed": True, **self.restore.prepare(self.options["dump"])}

    def swapped(self) -> dict[str, Any]:
        """Put the restored copy in the place of the database."""
        with alone(self.dir):
            return {"changed": True, **self.restore.swap(self.options["undumped"])}

    def returned(self) -> dict[str, Any]:
        """Put the replaced database back."""
        with alone(self.dir):
            return {"changed": True, **self.restore.undo()}

    def settled(self) -> dict[str, Any]:
        """Make the restore final."""
        self.restore.file.unlink(missing_ok=True)
        return {"changed": False}

    def recovered(self) -> dict[str, Any]:
        """Finish or undo an interrupted restore."""
        nothing = {"changed": False, "interrupted": "", "lines": [], "started": [], "page": False}
        record = Restore.read_file(self.dir)
        if self.check_mode:
            return {**nothing, "lines": ["An earlier restore was interrupted."] if record else []}
        page = (self.dir / ".restore.page").exists()
        if not record:
            return {**nothing, "page": page}
        # The entry may name another kind of database by now.
        self.options["kind"] = record.get("kind", "found")
        with alone(self.dir):
            # The interrupted run may have finished by itself meanwhile.
            found = self.restore.recover()
        return {"changed": bool(found["interrupted"]), "page": page, **found}


def list_lines(dumps: Sequence[dict[str, Any]], databases: Sequence[dict[str, Any]]) -> list[str]:
    """Format what can be restored as lines for the operator."""
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
