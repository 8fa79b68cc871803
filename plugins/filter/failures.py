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
        else "All other steps were done. Mend the cause and run the same command again."
    )
    return "\n".join(lines)


def deploy_report(
    failures: Sequence[Mapping[str, Any]], apps: Sequence[Mapping[str, Any]], visit: str = ""
) -> str:
    """
    List what went wrong in a run that went on with the other apps.

    Parameters
    ----------
    failures : list of dict
        For each app that failed, ``app``, ``reason``, and whether its new release is ``live``.
    apps : list of dict
        The apps that the run was about.
    visit : str, optional
        What is wrong with the sites that are deployed.

    Returns
    -------
    str
        A message for the operator.
    """
    lines = []
    if failures:
        lines.append(f"{len(failures)} of {len(apps)} apps could not be deployed:")
    for failure in failures:
        first, *rest = str(failure["reason"]).strip().splitlines()
        more = " (the whole message is above)" if rest else ""
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
