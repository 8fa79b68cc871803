"""Filter that turns a host's apt sources into those of another Debian release."""

import re
from typing import Any

# A base image needs a release and its updates, no backports and no proposed updates.
SUITE_SUFFIXES = ("", "-updates", "-security")


def apt_sources_for(text: str, release: str, wanted: str) -> str:
    """Point the Debian archives of a server at another release."""
    suites = {release + suffix: wanted + suffix for suffix in SUITE_SUFFIXES}
    lines: list[str] = []
    for stanza in re.split(r"\n\s*\n", text):
        for uri, suite in [*_one_line(stanza), *_deb822(stanza)]:
            line = f"deb {uri} {suites.get(suite)} main"
            if suite in suites and line not in lines:
                lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def _one_line(stanza: str) -> list[tuple[str, str]]:
    pattern = r"^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+.*\bmain\b"
    return [
        (uri, suite)
        for options, uri, suite in re.findall(pattern, stanza, flags=re.MULTILINE)
        if _signed_by_debian(re.findall(r"signed-by=(\S+)", options))
    ]


def _deb822(stanza: str) -> list[tuple[str, str]]:
    fields: dict[str, list[str]] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields.setdefault(name, []).extend(line.split())
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.split()
    if "deb" not in fields.get("types", []) or "main" not in fields.get("components", []):
        return []
    if fields.get("enabled", ["yes"])[0].lower() in ("no", "false"):
        return []
    if not _signed_by_debian(fields.get("signed-by", [])):
        return []
    return [(uri, suite) for uri in fields.get("uris", []) for suite in fields.get("suites", [])]


def _signed_by_debian(keyrings: list[str]) -> bool:
    return all("debian-archive" in keyring for keyring in keyrings)


class FilterModule:
    """Give the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filter."""
        return {"apt_sources_for": apt_sources_for}
