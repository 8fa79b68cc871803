#!/usr/bin/python
"""Ansible module: tell which releases of an app a server keeps, and which one has the traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release_info
short_description: List the releases of an app
description:
  - Reads the folder of each release, and the link that nginx follows to the live release. Only root
    may write to both.
options:
  dir:
    description: The app's folder on the server.
    type: path
    required: true
  routes:
    description: Folder of the app's routes.
    type: path
    required: true
  keep:
    description: How many releases to keep that were in service before the live release.
    type: int
    default: 5
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: List the releases
  release_info:
    dir: /opt/flask-vps/apps/shop
    routes: /opt/flask-vps/edge/routes/shop
"""

RETURN = r"""
live:
  description: Id of the release that has the traffic, or an empty string.
  type: str
  returned: always
moved:
  description:
    - Whether the live release listens in the folder of its routes. Releases of older versions of
      this project do not.
  type: bool
  returned: always
previous:
  description: Id of the release that a rollback returns to, or an empty string.
  type: str
  returned: always
releases:
  description: Record of each release with its C(state), the latest first.
  type: list
  elements: dict
  returned: always
served:
  description: Ids of all releases that were ever in service, the last one first.
  type: list
  elements: str
  returned: always
stale:
  description: Ids of releases beyond O(keep).
  type: list
  elements: str
  returned: always
"""

# nginx goes by one name for releases that speak uwsgi and another for those that speak HTTP.
LINKS = ("current", "current-http")


def live_release(routes: Path, app_dir: Path) -> str:
    """
    Find the release that has the traffic.

    Parameters
    ----------
    routes : pathlib.Path
        Folder with the routes to releases and the links to the one in service.
    app_dir : pathlib.Path
        The app's folder, whose link ``current`` tells which of two kinds of socket is in use; and
        where nothing was deployed since routes are root's, which release is in service.

    Returns
    -------
    str
        Its id, or nothing if no release was ever put in service.
    """
    found = {_target(routes / name) for name in LINKS} - {""}
    if len(found) == 1:
        return found.pop()
    # After a change of protocol both links are there; the folder's link was renamed last.
    current = Path(_target(app_dir / "current")).name
    return current if current in found or not found else ""


def has_moved(routes: Path, release: str) -> bool:
    """Tell whether a release listens in the folder of its routes, which then has its mark."""
    return bool(release) and (routes / release / release).exists()


def _target(link: Path) -> str:
    return str(link.readlink()) if link.is_symlink() else ""


def read_releases(app_dir: Path, live: str) -> list[dict[str, Any]]:
    """
    Read what is recorded of each release.

    Parameters
    ----------
    app_dir : pathlib.Path
        The app's folder.
    live : str
        Id of the release with the traffic.

    Returns
    -------
    list of dict
        The records, the youngest first, each with ``state``: live, good (was in service), rolled
        back, failed, or unfinished.
    """
    found = []
    for folder in (app_dir / "releases").glob("*"):
        file = folder / "release.json"
        if not folder.is_dir():
            continue
        try:
            record = json.loads(file.read_text())
        except (OSError, ValueError):
            # A run that was killed early leaves a folder without one.
            record = {"id": folder.name, "created": ""}
        if record["id"] == live:
            state = "live"
        elif record.get("rolled_back"):
            state = "rolled back"
        elif record.get("failed"):
            state = "failed"
        else:
            state = "good" if record.get("in_service") else "unfinished"
        found.append({**record, "state": state})
    return sorted(found, key=lambda record: (record["created"], record["id"]), reverse=True)


def previous_release(releases: list[dict[str, Any]]) -> str:
    """
    Choose the release to roll back to.

    Parameters
    ----------
    releases : list of dict
        What `read_releases` has found.

    Returns
    -------
    str
        The one that was in service last before the live one, passing over what was rolled back.
    """
    good = served_releases([record for record in releases if record["state"] == "good"])
    return good[0] if good else ""


def served_releases(releases: list[dict[str, Any]]) -> list[str]:
    """
    Order the releases by when they were in service; after a rollback the youngest was not the last.

    Parameters
    ----------
    releases : list of dict
        What `read_releases` has found.

    Returns
    -------
    list of str
        Ids of those that were ever in service, the one that was last first.
    """
    served = [record for record in releases if record.get("in_service")]
    served.sort(key=lambda record: record["in_service"][-1], reverse=True)
    return [record["id"] for record in served]


def stale_releases(releases: list[dict[str, Any]], keep: int) -> list[str]:
    """
    Choose the releases that may go.

    Parameters
    ----------
    releases : list of dict
        What `read_releases` has found.
    keep : int
        How many of those that were in service stay beside the live one.

    Returns
    -------
    list of str
        Their ids.
    """
    left = [record for record in releases if record["state"] != "live"]
    kept = served_releases(left)[:keep]
    return [record["id"] for record in left if record["id"] not in kept]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "routes": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    app_dir, routes = Path(module.params["dir"]), Path(module.params["routes"])
    live = live_release(routes, app_dir)
    releases = read_releases(app_dir, live)
    module.exit_json(
        changed=False,
        live=live,
        moved=has_moved(routes, live),
        previous=previous_release(releases),
        releases=releases,
        served=served_releases(releases),
        stale=stale_releases(releases, module.params["keep"]),
    )


if __name__ == "__main__":
    main()
