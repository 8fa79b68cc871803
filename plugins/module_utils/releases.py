"""The releases of an app on a server: folders, records, and links to the live release."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# In the folder of each release.
RECORD = "release.json"
# Names of the links that nginx follows to the live release, by the protocol that it speaks.
LINKS = {"uwsgi": "current", "http": "current-http"}
# An empty file beside them, which exists while the live release speaks HTTP. The link for the other
# protocol still leads to the release before, for requests that were on their way to it.
SPEAKS_HTTP = "speaks-http"


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of the release in a folder; empty if it is missing or damaged."""
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
        Folder with the routes to releases and the links to the live one.
    app_dir : pathlib.Path
        The app's folder. Its link ``current`` names the live release of an older version of this
        project, which has no routes yet.

    Returns
    -------
    str
        Its id; empty if no release was ever live.
    """
    links = [routes / LINKS["uwsgi"], routes / LINKS["http"], app_dir / "current"]
    if (routes / SPEAKS_HTTP).exists():
        links.pop(0)
    return next((Path(target).name for target in map(_target, links) if target), "")


def has_moved(routes: Path, release: str) -> bool:
    """Tell whether a release listens in the folder of its routes, which then contains a mark."""
    return bool(release) and (routes / release / release).exists()


def _target(link: Path) -> str:
    return str(link.readlink()) if link.is_symlink() else ""


def read_releases(app_dir: Path, live: str) -> list[dict[str, Any]]:
    """
    Read the record of each release.

    Parameters
    ----------
    app_dir : pathlib.Path
        The app's folder.
    live : str
        Id of the release with the traffic.

    Returns
    -------
    list of dict
        The records, the latest first, each with ``state``: live, good (was in service), rolled
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
        What `read_releases` returned.

    Returns
    -------
    str
        The last one in service before the live one, without those that were rolled back.
    """
    good = served_releases([record for record in releases if record["state"] == "good"])
    return good[0] if good else ""


def served_releases(releases: list[dict[str, Any]]) -> list[str]:
    """
    Order the releases by when they were in service, which may differ from their age.

    Parameters
    ----------
    releases : list of dict
        What `read_releases` returned.

    Returns
    -------
    list of str
        Ids of all that were ever in service, the last one first.
    """
    served = [record for record in releases if record.get("in_service")]
    served.sort(key=lambda record: record["in_service"][-1], reverse=True)
    return [record["id"] for record in served]


def stale_releases(releases: list[dict[str, Any]], keep: int) -> list[str]:
    """
    Choose the releases to remove.

    Parameters
    ----------
    releases : list of dict
        What `read_releases` returned.
    keep : int
        How many releases that were in service to keep beside the live one.

    Returns
    -------
    list of str
        Their ids.
    """
    left = [record for record in releases if record["state"] != "live"]
    kept = served_releases(left)[:keep]
    return [record["id"] for record in left if record["id"] not in kept]


def now() -> str:
    """Return the time in UTC, in a form that sorts."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def point(link: Path, target: str) -> bool:
    """
    Change the target of a link in one rename.

    Parameters
    ----------
    link : pathlib.Path
        The link, which need not exist yet.
    target : str
        The new target.

    Returns
    -------
    bool
        Whether the target changed.
    """
    if link.is_symlink() and str(link.readlink()) == target:
        return False
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)
    return True


def _choose(mark: Path, exists: bool) -> bool:
    """Make or remove a file, and tell whether that changed anything."""
    if mark.exists() == exists:
        return False
    if exists:
        mark.touch(mode=0o644)
    else:
        mark.unlink()
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
        """Write the record to a new file, then rename it: a partial record is never visible."""
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
        """Record that another release has the traffic now."""
        if not self.folder.is_dir():
            return
        record = self.read()
        record.setdefault("in_service", [record["created"]])
        self.write({**record, "rolled_back": now()} if rolled_back else record)

    def go_live(self, options: dict[str, Any]) -> bool:
        """Rename the links, first those to static files, which the new pages request."""
        static, routes = Path(options["static"]), Path(options["routes"])
        changed = False
        for slot, name in enumerate(options["kept"][: options["slots"]], start=1):
            changed |= point(static / f"kept-{slot}", name)
        changed |= point(static / "current", self.id)
        switched = point(routes / LINKS[options["protocol"]], self.id)
        switched |= _choose(routes / SPEAKS_HTTP, options["protocol"] == "http")
        switched |= point(self.app_dir / "current", str(self.folder))
        # A run that was killed after the rename did not record it.
        if switched or not self.read().get("in_service"):
            record = {k: v for k, v in self.read().items() if k not in ("failed", "rolled_back")}
            self.write({**record, "in_service": [*record.get("in_service", []), now()]})
            if options["leaves"] not in ("", self.id):
                Release(self.app_dir, options["leaves"]).leave(options["rolled_back"])
        return changed or switched
