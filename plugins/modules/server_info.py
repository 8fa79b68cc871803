#!/usr/bin/python
"""Ansible module: gather what a server runs, its disks, and the results of scheduled jobs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.paths import SERVER_DIR
from ansible.module_utils.releases import read_record

DOCUMENTATION = r"""
module: server_info
short_description: Gather what a server runs
description:
  - Lists the containers of this project, running or not, and those that its compose files name.
  - Measures the file systems of the system, the engine and each volume.
  - Reads the last result of each scheduled job.
  - Changes nothing. Works as well if the engine does not answer or nothing is installed.
options:
  apps:
    description: Names of the apps to look at.
    type: list
    elements: str
    required: true
  dir:
    description: The project's folder on the server.
    type: path
    default: /opt/flask-vps
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Gather what the server runs
  server_info:
    apps: [shop]
"""

RETURN = r"""
engine:
  description: Whether Docker is installed and answers.
  type: dict
  returned: always
edge:
  description: Services that the compose file of the edge names.
  type: list
  elements: str
  returned: always
deployed:
  description: Whether the project's folder exists.
  type: bool
  returned: always
apps:
  description: What is deployed of each app.
  type: list
  elements: dict
  returned: always
others:
  description: Names of further deployed apps.
  type: list
  elements: str
  returned: always
containers:
  description: State of each container.
  type: list
  elements: dict
  returned: always
disks:
  description: Use of each file system.
  type: list
  elements: dict
  returned: always
now:
  description: The server's clock, in seconds since 1970.
  type: float
  returned: always
"""

CGROUPS = Path("/sys/fs/cgroup")


def docker(*arguments: str) -> tuple[int, str, str]:
    """Run the command line of Docker; return its status, its output and its errors."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, "", str(error)
    return done.returncode, done.stdout, done.stderr.strip()


def services(compose: Path) -> list[str]:
    """
    List the services of a compose file from one of this project's templates.

    Parameters
    ----------
    compose : pathlib.Path
        The file.

    Returns
    -------
    list of str
        In the order of the file; empty without a file. Python's library cannot read YAML.
    """
    try:
        text = compose.read_text()
    except OSError:
        return []
    match = re.search(r"^services:\n((?:[ #].*\n|\n)*)", text, re.MULTILINE)
    return re.findall(r"^  ([A-Za-z0-9_.-]+):", match[1], re.MULTILINE) if match else []


def look_at_app(name: str, folder: Path) -> dict[str, Any]:
    """
    Read what is deployed of an app.

    Parameters
    ----------
    name : str
        The app.
    folder : pathlib.Path
        Its folder on the server.

    Returns
    -------
    dict
        ``live``: id of the release with the traffic, or empty; ``entry`` and ``services`` of that
        release; ``jobs``: record of the last run of each job, by name.
    """
    live, entry, named = "", {}, []
    current = folder / "current"
    if current.exists():
        release = current.resolve()
        live, named = release.name, services(release / "compose.yml")
        entry = read_record(release).get("entry", {})
    jobs = {file.stem: _read_json(file) for file in sorted((folder / "jobs").glob("*.json"))}
    return {"name": name, "live": live, "entry": entry, "services": named, "jobs": jobs}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def containers() -> list[dict[str, Any]]:
    """Describe all containers of compose projects, including stopped ones."""
    listed = docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project")
    ids = listed[1].split()
    if not ids:
        return []
    # A container that was removed meanwhile is left out.
    try:
        described = json.loads(docker("inspect", *ids)[1] or "[]")
    except ValueError:
        described = []
    return [describe(container) for container in described]


def describe(container: dict[str, Any]) -> dict[str, Any]:
    """Pick what status needs from the output of ``docker inspect``."""
    state, labels = container["State"], container["Config"].get("Labels") or {}
    return {
        "name": container["Name"].lstrip("/"),
        "project": labels.get("com.docker.compose.project", ""),
        "service": labels.get("com.docker.compose.service", ""),
        "once": labels.get("com.docker.compose.oneoff") == "True",
        "app": labels.get("flask-vps.app", ""),
        "services_of": labels.get("flask-vps.services-of", ""),
        "release": labels.get("flask-vps.release", ""),
        "state": state["Status"],
        "health": (state.get("Health") or {}).get("Status", ""),
        "exit_code": state.get("ExitCode", 0),
        "error": state.get("Error", ""),
        "out_of_memory": bool(state.get("OOMKilled")),
        "oom_kills": oom_kills(state.get("Pid", 0)),
        "restarts": container.get("RestartCount", 0),
        "started": state.get("StartedAt", ""),
        "finished": state.get("FinishedAt", ""),
    }


def oom_kills(pid: int, proc: Path = Path("/proc"), cgroups: Path = CGROUPS) -> int:
    """
    Count the processes of a container that were killed because its memory was full.

    Parameters
    ----------
    pid : int
        The container's first process; zero if it does not run.
    proc, cgroups : pathlib.Path
        Where the kernel shows processes and control groups.

    Returns
    -------
    int
        Count since the container's start; zero if the kernel does not tell.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines() if pid else []
    except OSError:
        return 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            file = cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
        elif controllers == "":
            file = cgroups / path.lstrip("/") / "memory.events"
        else:
            continue
        try:
            match = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
        except OSError:
            continue
        if match:
            return int(match[1])
    return 0


def disks(places: dict[str, Path]) -> list[dict[str, Any]]:
    """
    Measure the file systems of some folders, each once.

    Parameters
    ----------
    places : dict of str to pathlib.Path
        Folders by the name to show.

    Returns
    -------
    list of dict
        ``name`` of the first folder and ``also`` those of the others on it; ``total``, ``free`` in
        bytes; ``used`` in percent as df counts, and ``inodes`` in percent.
    """
    found: dict[int, dict[str, Any]] = {}
    for name, path in places.items():
        try:
            device, stat = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue
        if device in found:
            found[device]["also"].append(name)
            continue
        used = stat.f_blocks - stat.f_bfree
        room, inodes = used + stat.f_bavail, stat.f_files
        found[device] = {
            "name": name,
            "also": [],
            "total": stat.f_blocks * stat.f_frsize,
            "free": stat.f_bavail * stat.f_frsize,
            "used": round(100 * used / room) if room else 0,
            "inodes": round(100 * (inodes - stat.f_favail) / inodes) if inodes else 0,
        }
    return list(found.values())


def volumes() -> dict[str, Path]:
    """Find the folder of each Docker volume."""
    names = docker("volume", "ls", "--quiet")[1].split()
    if not names:
        return {}
    form = "{{.Name}} {{.Mountpoint}}"
    lines = docker("volume", "inspect", "--format", form, *names)[1].splitlines()
    split = (line.partition(" ") for line in lines)
    return {f"volume {name}": Path(mount) for name, _, mount in split if mount}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "apps": {"type": "list", "elements": "str", "required": True},
            "dir": {"type": "path", "default": SERVER_DIR},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["dir"])
    installed = shutil.which("docker") is not None
    form = "{{.ServerVersion}} {{.DockerRootDir}}"
    code, said, error = docker("info", "--format", form) if installed else (1, "", "")
    version, _, root = said.strip().partition(" ")
    answers = code == 0 and bool(version) and not error.startswith("Cannot connect")
    places = {"/": Path("/"), str(folder): folder}
    if answers:
        places |= {root: Path(root), **volumes()}
    elif installed:
        places["/var/lib/docker"] = Path("/var/lib/docker")
    module.exit_json(
        changed=False,
        engine={
            "installed": installed,
            "answers": answers,
            "version": version,
            "error": "" if answers else error,
        },
        deployed=folder.is_dir(),
        edge=services(folder / "edge/compose.yml"),
        apps=[look_at_app(name, folder / "apps" / name) for name in module.params["apps"]],
        others=sorted(
            f.parent.name
            for f in folder.glob("apps/*/current")
            if f.parent.name not in module.params["apps"]
        ),
        containers=containers() if answers else [],
        disks=disks(places),
        now=time.time(),
    )


if __name__ == "__main__":
    main()
