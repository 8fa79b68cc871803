"""The releases of an app on a server: folders, records, and links to the one with the traffic."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# In the folder of each release.
RECORD = "release.json"
# Name of the link that nginx follows to the live release, by what nginx speaks there. Two names, so
# that an app that changes from one protocol to the other loses no request.
LINKS = {"uwsgi": "current", "http": "current-http"}


def read_record(folder: Path) -> dict[str, Any]:
    """Read what is recorded of the release in a folder; empty if nothing is, or it is damaged."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


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
    found = {_target(routes / name) for name in LINKS.values()} - {""}
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
        if not folder.is_dir():
            continue
        # A run that was killed early leaves a folder without a record.
        record = read_record(folder) or {"id": folder.name, "created": ""}
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
        self.file = self.folder / RECORD

    def read(self) -> dict[str, Any]:
        """Read the record, or begin one where a killed run left none."""
        return read_record(self.folder) or {"id": self.id, "created": now()}

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
