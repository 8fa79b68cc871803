#!/usr/bin/python
"""Ansible module: wait until a release answers or is healthy, or until a container stopped."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release_health
short_description: Wait for the containers of a release
description:
  - Runs the health check of the release's own container, and fails as soon as a container stopped.
  - Docker's own health status comes too late, as it follows the interval of the check, and does
    not tell O(until=answering) from O(until=healthy).
options:
  project:
    description: Compose project of the release.
    type: str
    required: true
  until:
    description:
      - V(answering) waits until the app gives any answer, even that its database is not ready.
      - V(healthy) waits until the app's health path answers with a status below 500.
      - V(serving) is V(healthy), or has all workers busy with requests.
      - V(running) waits for O(seconds), and fails if a container stops meanwhile.
    type: str
    choices: [answering, healthy, running, serving]
    required: true
  seconds:
    description: How long to wait, in seconds.
    type: float
    required: true
author: flask-vps maintainers
notes:
  - Uses the command line of Docker, which every version of the engine has.
"""

EXAMPLES = r"""
- name: Wait until the release is healthy
  release_health:
    project: shop-0123456789ab
    until: healthy
    seconds: 60
"""

RETURN = r"""
container:
  description: Id of the container that failed.
  type: str
  returned: failure
"""

# uWSGI logs this when its workers end again and again; the container itself keeps running.
SPINS = "worker respawning too fast"
PAUSE_SECONDS = 0.3
# https://www.gnu.org/software/bash/manual/bash.html#Exit-Status
EXIT_CODES = {
    0: "its command ended, but must keep running",
    126: "its command cannot be executed",
    127: "its command was not found",
    137: "it was killed",
}


def docker(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the command line of Docker."""
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, timeout=timeout
    )


def containers(project: str) -> list[dict[str, Any]]:
    """Describe the containers of a compose project, without those of `compose run`."""
    listed = docker(
        "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"
    )
    ids = listed.stdout.split()
    if not ids:
        return []
    described = json.loads(docker("inspect", *ids).stdout or "[]")
    return [
        c for c in described if c["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"
    ]


def first_end(container: dict[str, Any]) -> tuple[int | None, bool]:
    """
    Find out from Docker's events how a container ended for the first time.

    Parameters
    ----------
    container : dict
        Output of ``docker inspect``, whose state no longer shows the end once Docker has restarted
        the container.

    Returns
    -------
    code : int or None
        The exit code; None if the engine no longer knows.
    out_of_memory : bool
        Whether its memory was full before.
    """
    kinds = ("--filter", "event=die", "--filter", "event=oom")
    listed = docker(
        *("events", "--since", container["Created"], "--until", f"{time.time():.3f}", *kinds),
        *("--filter", f"container={container['Id']}"),
        *("--format", "{{.Action}} {{.Actor.Attributes.exitCode}}"),
    )
    memory = False
    for line in listed.stdout.splitlines():
        action, _, code = line.partition(" ")
        if action == "oom":
            memory = True
        elif action == "die" and code.strip().isdigit():
            return int(code), memory
    return None, memory


def ended(container: dict[str, Any], restarts: int) -> str:
    """
    Describe how a container has ended.

    Parameters
    ----------
    container : dict
        Output of ``docker inspect``.
    restarts : int
        How often Docker had restarted it when the wait began.

    Returns
    -------
    str
        The reason; empty while it runs.
    """
    state, service = container["State"], container["Config"]["Labels"]["com.docker.compose.service"]
    if state["Status"] in ("exited", "dead", "restarting") or container["RestartCount"] > restarts:
        code, memory = first_end(container)
        if code is None and state["Status"] in ("exited", "dead"):
            code = state["ExitCode"]
        if memory:
            return _memory_was_full(service)
        how = "ended" if code is None else f"ended with exit code {code}"
        meaning = f" ({EXIT_CODES[code]})" if code in EXIT_CODES else ""
        return out_of_memory(container) or f"its container {service} {how}{meaning}"
    return ""


def out_of_memory(container: dict[str, Any]) -> str:
    """
    Tell whether a process of a container was killed because its memory was full.

    Parameters
    ----------
    container : dict
        Output of ``docker inspect``. A container that keeps running also keeps the mark, so the
        mark alone is not a failure.

    Returns
    -------
    str
        The reason; empty if there was enough memory.
    """
    service = container["Config"]["Labels"]["com.docker.compose.service"]
    killed = container["State"].get("OOMKilled")
    return _memory_was_full(service) if killed else ""


def _memory_was_full(service: str) -> str:
    return f"its container {service} ran out of memory: raise memory_mb"


def _has_check(container: dict[str, Any]) -> bool:
    test = (container["Config"].get("Healthcheck") or {}).get("Test")
    return bool(test) and test != ["NONE"]


def ask(container: dict[str, Any]) -> tuple[bool, str, int]:
    """
    Run a container's health check in it.

    Parameters
    ----------
    container : dict
        Output of ``docker inspect``.

    Returns
    -------
    healthy : bool
        Whether the check passed.
    output : str
        What it printed.
    status : int
        The HTTP status that it printed as its first number; 0 if there was no answer.
    """
    test = container["Config"]["Healthcheck"]["Test"]
    command = test[1:] if test[0] == "CMD" else ["sh", "-c", *test[1:]]
    try:
        done = docker("exec", container["Id"], *command, timeout=10)
    except subprocess.TimeoutExpired:
        return False, "no answer within 10 s", 0
    output = " ".join((done.stdout + done.stderr).split())
    match = re.match(r"(\d{3})\b", output)
    return done.returncode == 0, output, int(match[1]) if match else 0


def said(container: dict[str, Any]) -> str:
    """Read the end of a container's log."""
    done = docker("logs", "--tail", "20", container["Id"])
    return done.stdout + done.stderr


def wait(project: str, until: str, seconds: float) -> tuple[str, str]:
    """
    Wait for a release.

    Parameters
    ----------
    project, until : str
        As the module's options of the same names.
    seconds : float
        How long to wait, in seconds.

    Returns
    -------
    reason : str
        Why the release did not get there; empty if it did.
    container : str
        The container that the reason is about.
    """
    deadline = time.monotonic() + seconds
    heard = ""
    restarts: dict[str, int] = {}
    while True:
        found = containers(project)
        for container in found:
            before = restarts.setdefault(container["Id"], container["RestartCount"])
            reason = ended(container, before)
            if reason:
                return reason, container["Id"]
        checked = [c for c in found if _has_check(c)]
        if until != "running":
            for container in checked:
                healthy, output, status = ask(container)
                # Without visitors, an app that gives no answer is not busy, but hangs.
                is_well = healthy and (until == "serving" or not output.startswith("busy"))
                if is_well or (until == "answering" and status > 0):
                    return "", ""
                heard = output or heard
                if status == 0 and SPINS in said(container):
                    why = "uWSGI's workers end right after they start"
                    return out_of_memory(container) or why, container["Id"]
        if time.monotonic() > deadline:
            break
        time.sleep(PAUSE_SECONDS)
    if until == "running":
        return ("", "") if found else ("it has no containers", "")
    what = "answer" if until == "answering" else "become healthy"
    last = f"; its health check says: {heard}" if heard else ""
    return f"it did not {what} within {seconds:g} s{last}", checked[0]["Id"] if checked else ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "until": {
                "type": "str",
                "choices": ["answering", "healthy", "running", "serving"],
                "required": True,
            },
            "seconds": {"type": "float", "required": True},
        },
    )
    options = module.params
    reason, container = wait(options["project"], options["until"], options["seconds"])
    if reason:
        module.fail_json(msg=reason, container=container)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
