"""Dumps of databases: their names, and which of them to remove."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

STAMP = "%Y%m%dT%H%M%SZ"

# The name of a dump of SQLite files in volumes ends in this.
FILES_SUFFIX = ".sqlite.tar"
NAME = re.compile(rf"(\d{{8}}T\d{{6}}Z)-before-([\w.-]+?)(-failed)?(\.dump|{FILES_SUFFIX})")

# A database that a restore replaced, or that an undone restore had put in place.
REPLACED = re.compile(r".+[._](before|after)_(\d{8}t\d{6}z)")

# Reasons for a dump other than a release.
OTHER_REASONS = ("removal", "restore")


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
        Whether that release never had the traffic.
    """

    name: str
    taken: datetime
    reason: str
    failed: bool = False

    @property
    def sort(self) -> str:
        """Return the kind that it counts as."""
        if self.reason in OTHER_REASONS:
            return self.reason
        return "failed" if self.failed else "release"


def parse_name(name: str) -> Dump | None:
    """Parse the name of a dump; None for any other file."""
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
    Choose the dumps to remove.

    Parameters
    ----------
    names : sequence of str
        Names of files. Files that are not dumps stay.
    kept : int
        How many of each kind to keep: before a release, before one that failed, before a restore,
        before a removal. With 0 no dumps are made, and none is removed.
    days : int
        For how many days, including today, the last dump of each day is kept as well.
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
        # These are kept for their day only if there is no other dump: one before a failed release,
        # and one before a restore, which has the data that the restore was meant to replace.
        day.sort(key=lambda dump: (dump.sort in ("release", "removal"), not dump.failed, dump.name))
        stay |= {dump.name for dump in day[-1:]}
    return [dump.name for dump in found if dump.name not in stay] if kept > 0 else []


def age(taken: datetime, now: datetime) -> str:
    """Format how long ago a time was, in the largest unit that fits."""
    seconds = max(0, int((now - taken).total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def show_size(size: int) -> str:
    """Format a number of bytes, in kB or in MB (of 1024 times 1024 bytes)."""
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 1024:.1f} kB"
