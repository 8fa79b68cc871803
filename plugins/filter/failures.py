"""Filters that say what went wrong, and what that means for the visitors."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def failure_reason(result: Mapping[str, Any]) -> str:
    """
    Say why a task failed.

    Parameters
    ----------
    result : dict
        What Ansible knows of it; that of a loop has ``results``.

    Returns
    -------
    str
        The messages of its failed items, or its own; with what a command printed.
    """
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
    """
    Say that a release has the traffic although its deploy failed, and what is left to do.

    Parameters
    ----------
    left : list of dict
        For each step that failed after the switch, ``step``, the task's name, and ``reason``.
    app : str
        The app's name.
    release : str
        Id of the release.
    is_rollback : bool, optional
        Whether the run was to return to that release.

    Returns
    -------
    str
        A message for the operator.
    """
    lines = [f"Release {release} of {app} has the traffic; what is left to do:"]
    for failure in left:
        step = failure["step"].rpartition("| ")[2]
        lines.append(f'- "{step}" failed:')
        lines.append(textwrap.indent(failure["reason"], "  "))
    lines.append(
        "All other steps were done. Mend the cause: the next deploy does what is left. Another "
        "rollback would lead one release further back."
        if is_rollback
        else "All other steps were done. Mend the cause and run the same command again. Apps that "
        f"come after {app} in `apps` were not deployed in this run."
    )
    return "\n".join(lines)


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"failure_reason": failure_reason, "unfinished_release": unfinished_release}
