"""Filters for messages about failures and their effect on visitors."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def failure_reason(result: Mapping[str, Any]) -> str:
    """Return why a task failed."""
    items = [item for item in result.get("results") or [] if item.get("failed")]
    if items:
        return "\n".join(dict.fromkeys(failure_reason(item) for item in items))
    parts = [str(result.get("msg") or "").strip()]
    if result.get("rc"):
        parts[0] = f"it ended with exit code {result['rc']}"
        parts += [str(result.get(key) or "").strip() for key in ("stdout", "stderr")]
    return "\n".join(filter(None, parts)) or "no reason was given"


def unfinished_release(
    left: Sequence[Mapping[str, str]], app: str, release: str, is_rollback: bool = False
) -> str:
    """Write the message of a run that failed after its release got the traffic."""
    lines = [f"Release {release} of {app} has the traffic; what is left to do:"]
    for failure in left:
        step = failure["step"].rpartition("| ")[2]
        lines.append(f'- "{step}" failed:')
        lines.append(textwrap.indent(failure["reason"], "  "))
    lines.append(
        "All other steps were done. Fix the cause: the next deploy does what is left. Another "
        "rollback would go back one more release."
        if is_rollback
        else "All other steps were done. Fix the cause and run the same command again."
    )
    return "\n".join(lines)


def deploy_report(
    failures: Sequence[Mapping[str, Any]], apps: Sequence[Mapping[str, Any]], visit: str = ""
) -> str:
    """List the failures of a run that went on with the other apps."""
    lines = []
    if failures:
        lines.append(f"{len(failures)} of {len(apps)} apps could not be deployed:")
    for failure in failures:
        first, *rest = str(failure["reason"]).strip().splitlines()
        more = " (the full message is above)" if rest else ""
        lines.append(f"- {failure['app']}: {first}{more}")
    if visit:
        lines.append(visit)
    return "\n".join(lines)


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "deploy_report": deploy_report,
            "failure_reason": failure_reason,
            "unfinished_release": unfinished_release,
        }
