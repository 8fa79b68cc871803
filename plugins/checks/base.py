"""Rules for the server's own settings, those of the role base."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checks.report import UNKNOWN, Finding

if TYPE_CHECKING:
    from checks.site import Site

HOSTNAME = re.compile(
    r"(?=.{1,64}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
LOCALE = re.compile(r"(C|POSIX|[a-z]{2,3}_[A-Z]{2}(@[a-z]+)?)(\.[A-Za-z0-9-]+)?")
TIMEZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
SYSCTL = re.compile(r"[a-z0-9_-]+([./][A-Za-z0-9_-]+)+")
TEXTS = {
    "base_hostname": (
        HOSTNAME,
        "is not a valid host name",
        "Write it like web1 or web1.example.org",
    ),
    "base_locale": (LOCALE, "is not the name of a locale", "Write it like C.UTF-8 or de_DE.UTF-8"),
    "base_timezone": (TIMEZONE, "is not the name of a time zone", "Write it like Europe/Berlin"),
    "base_reboot_time": (CLOCK, "is not a time of day", 'Write it like "04:00", in quotes'),
}
# Sizes in megabytes: the smallest that is of use, and the largest.
SIZES = {"base_journal_mb": (16, 100_000), "base_swap_mb": (0, 64_000)}


def check_base(site: Site) -> list[Finding]:
    """Check the values that types alone do not."""
    found = []
    for name, (pattern, wrong, fix) in TEXTS.items():
        value = site.get(name, "")
        if value not in ("", UNKNOWN) and not pattern.fullmatch(str(value)):
            found.append(Finding(name, wrong, fix, value))
    for name, (least, most) in SIZES.items():
        value = str(site.get(name, least))
        if re.fullmatch(r"-?\d+", value) and not least <= int(value) <= most:
            fix = f"Write a number from {least} to {most}"
            found.append(Finding(name, "is out of range", fix, value))
    settings = site.get("base_sysctl", {})
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if not SYSCTL.fullmatch(str(key)):
            fix = "Write it like net.core.somaxconn"
            found.append(Finding("base_sysctl", "has a name that no kernel setting has", fix, key))
        elif isinstance(value, dict | list | bool) or value is None or "\n" in str(value):
            fix = "Write a number or a text of one line"
            found.append(Finding(f"base_sysctl.{key}", "is not a value of the kernel", fix, value))
    return found
