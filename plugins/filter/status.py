"""Filter that reports what a server runs and what is wrong with it."""

import sys
from pathlib import Path
from typing import Any

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from checks.running import report, site_lines


def status_report(
    server: dict[str, Any], entries: list[dict[str, Any]], visited: dict[str, Any], whole: bool
) -> dict[str, Any]:
    """Report what a server runs and what is wrong with it."""
    made = report(server, entries, whole)
    lines = made.lines + site_lines(visited.get("sites") or [])
    wrong = made.wrong + list(visited.get("wrong") or [])
    cautions = made.cautions + list(visited.get("cautions") or [])
    verdict = "\n".join(f"- {line}" for line in wrong)
    return {"text": "\n".join(lines), "wrong": wrong, "cautions": cautions, "verdict": verdict}


class FilterModule:
    """Give the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filter."""
        return {"status_report": status_report}
