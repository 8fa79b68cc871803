#!/usr/bin/python
"""Ansible module: record a release of an app, and give it the traffic."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release
short_description: Record a release, switch the traffic to it, or note that it failed
description:
  - O(state=recorded) records the facts about a release before it starts.
  - O(state=live) switches the traffic to the release by renaming symbolic links. nginx opens the
    socket behind its link for each request, so it needs no reload, and there is no moment without
    a release.
  - O(state=failed) records that the release never became healthy.
options:
  state:
    description: What to do.
    type: str
    choices: [recorded, live, failed]
    required: true
  id:
    description: Id of the release.
    type: str
    required: true
  dir:
    description: The app's folder on the server.
    type: path
    required: true
  record:
    description: For O(state=recorded), the facts to record.
    type: dict
    default: {}
  routes:
    description: Folder of the app's routes. Required for O(state=live).
    type: path
  link:
    description: Name of the link that nginx follows. Required for O(state=live).
    type: str
  static:
    description: Folder of the app's static files. Required for O(state=live).
    type: path
  kept:
    description:
      - For O(state=live), ids of releases whose static files stay available, the latest first.
    type: list
    elements: str
    default: []
  slots:
    description: For O(state=live), in how many of these releases nginx looks for a file.
    type: int
    default: 5
  leaves:
    description: For O(state=live), id of the release that had the traffic before.
    type: str
    default: ""
  rolled_back:
    description: For O(state=live), whether that release is left because something is wrong with it.
    type: bool
    default: false
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Switch the traffic to the release
  release:
    state: live
    id: 0123456789ab
    dir: /opt/flask-vps/apps/shop
    routes: /opt/flask-vps/edge/routes/shop
    link: current
    static: /opt/flask-vps/edge/static/shop
"""

RETURN = r"""
record:
  description: The record of the release after this.
  type: dict
  returned: always
"""


def now() -> str:
    """Tell the time in UTC, in a form that sorts."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def point(link: Path, target: str) -> bool:
    """
    Have a link point elsewhere, in one rename.

    Parameters
    ----------
    link : pathlib.Path
        The link, which need not exist yet.
    target : str
        What it is to point to.

    Returns
    -------
    bool
        Whether that is a change.
    """
    if link.is_symlink() and str(link.readlink()) == target:
        return False
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)
    return True


class Release:
    """One release in its folder."""

    def __init__(self, app_dir: Path, name: str) -> None:
        self.app_dir = app_dir
        self.id = name
        self.folder = app_dir / "releases" / name
        self.file = self.folder / "release.json"

    def read(self) -> dict[str, Any]:
        """Read the record; one that a killed run left out is empty."""
        try:
            return json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {"id": self.id, "created": now()}

    def write(self, record: dict[str, Any]) -> bool:
        """Write the record under its last name only when it is whole."""
        if self.file.exists() and self.read() == record:
            return False
        fresh = self.file.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(record, file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.file)
        return True

    def leave(self, rolled_back: bool) -> None:
        """Note that another release has the traffic now."""
        if not self.folder.is_dir():
            return
        record = self.read()
        record.setdefault("in_service", [record["created"]])
        self.write({**record, "rolled_back": now()} if rolled_back else record)

    def go_live(self, options: dict[str, Any]) -> bool:
        """Rename the links: those to static files first, since the new pages ask for them."""
        static, routes = Path(options["static"]), Path(options["routes"])
        changed = False
        for slot, name in enumerate(options["kept"][: options["slots"]], start=1):
            changed |= point(static / f"kept-{slot}", name)
        changed |= point(static / "current", self.id)
        switched = point(routes / options["link"], self.id)
        switched |= point(self.app_dir / "current", str(self.folder))
        # A run that was killed between the two left no word of it.
        if switched or not self.read().get("in_service"):
            record = {k: v for k, v in self.read().items() if k not in ("failed", "rolled_back")}
            self.write({**record, "in_service": [*record.get("in_service", []), now()]})
            if options["leaves"] not in ("", self.id):
                Release(self.app_dir, options["leaves"]).leave(options["rolled_back"])
        return changed or switched


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["recorded", "live", "failed"],
                "required": True,
            },
            "id": {"type": "str", "required": True},
            "dir": {"type": "path", "required": True},
            "record": {"type": "dict", "default": {}},
            "routes": {"type": "path"},
            "link": {"type": "str"},
            "static": {"type": "path"},
            "kept": {"type": "list", "elements": "str", "default": []},
            "slots": {"type": "int", "default": 5},
            "leaves": {"type": "str", "default": ""},
            "rolled_back": {"type": "bool", "default": False},
        },
        required_if=[("state", "live", ("routes", "link", "static"))],
    )
    options = module.params
    release = Release(Path(options["dir"]), options["id"])
    if options["state"] == "live":
        changed = release.go_live(options)
    elif options["state"] == "failed":
        changed = release.write({**release.read(), "failed": now()})
    else:
        # Who made it, and from what, is a fact of its first time.
        record = {**options["record"], **release.read()}
        changed = release.write(record)
    module.exit_json(changed=changed, record=release.read())


if __name__ == "__main__":
    main()
