"""Filters for the configuration of Docker engines, and for what each version supports."""

import json
import re
from typing import Any

from ansible.errors import AnsibleFilterError

# Since this version, health checks can be more frequent while a container starts.
# https://docs.docker.com/reference/compose-file/services/#healthcheck
START_INTERVAL_SINCE = 25
# From this version on an engine translates IPv6 addresses by default, and before 20.10 it cannot.
# https://docs.docker.com/engine/daemon/ipv6/
IPV6_SINCE = 27


def engine_major(version: str) -> int:
    """Read the major version of a Docker engine."""
    match = re.search(r"(\d+)\.\d+", str(version))
    return int(match[1]) if match else 0


def health_pace(version: str) -> dict[str, str | int]:
    """Choose how often health checks run."""
    if engine_major(version) >= START_INTERVAL_SINCE:
        return {"interval": "30s", "retries": 2, "start_interval": "1s"}
    return {"interval": "5s", "retries": 6}


def ipv6_options(version: str | int) -> dict[str, bool]:
    """Choose the daemon options for IPv6 in the networks of containers."""
    major = version if isinstance(version, int) else engine_major(version)
    return {"experimental": True, "ip6tables": True} if 20 <= major < IPV6_SINCE else {}


def has_ipv6(addresses: str) -> bool:
    """Tell whether a server has an IPv6 address that others can reach."""
    # Address, number, prefix, scope, flags, interface; scope 00 is global, which unique local
    # addresses are, too.
    lines = (line.split() for line in addresses.splitlines())
    return any(
        len(line) == 6 and line[3] == "00" and not re.match(r"lo$|docker|br-|veth", line[5])
        for line in lines
    )


def translates_ipv6(info: dict[str, Any]) -> bool:
    """Tell whether an engine brings a visitor's IPv6 address to a container."""
    major = engine_major(info.get("ServerVersion", ""))
    return major >= IPV6_SINCE or (major >= 20 and bool(info.get("ExperimentalBuild")))


def daemon_options(
    ours: dict[str, Any],
    text: str = "",
    earlier: str = "",
    arguments: str = "",
    swarm: str = "inactive",
) -> dict[str, Any]:
    """Merge options into a Docker daemon's configuration that others may have written."""
    before = _object(text)
    mine = _object(earlier)
    theirs = {n: v for n, v in before.items() if n not in mine or mine[n] != v}
    taken = {name for name in ours if name in theirs or _is_argument(name, arguments)}
    # Options of one log driver may be invalid for another.
    if "log-driver" in taken and theirs.get("log-driver") != ours.get("log-driver"):
        taken |= {"log-opts"} & set(ours)
    if "log-opts" in taken and "log-driver" not in theirs:
        taken |= {"log-driver"} & set(ours)
    # The two exclude each other: https://docs.docker.com/engine/daemon/live-restore/
    if swarm not in ("", "inactive"):
        taken |= {"live-restore"} & set(ours)
    added = {name: value for name, value in ours.items() if name not in taken}
    options = {**theirs, **added}
    kept = sorted(name for name in taken if theirs.get(name) != ours[name])
    return {"options": options, "added": added, "kept": kept, "differs": options != before}


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError as error:
        message = f"/etc/docker/daemon.json is not valid JSON: {error}. Correct or remove it"
        raise AnsibleFilterError(message) from error
    if not isinstance(found, dict):
        raise AnsibleFilterError(
            "/etc/docker/daemon.json is not a JSON object. Correct or remove it"
        )
    return found


def _is_argument(name: str, arguments: str) -> bool:
    # Options that can be repeated are singular there: registry-mirrors, --registry-mirror.
    return bool(
        re.search(rf"--({re.escape(name)}|{re.escape(name.removesuffix('s'))})\b", arguments)
    )


def missing_packages(
    wanted: list[str], engine: bool, installed: list[str], lacking: list[str], names: Any
) -> list[str]:
    """Name the packages that a server lacks for Docker."""
    if not engine:
        return wanted
    if "docker-ce" in installed:
        source = names["upstream"]
    elif "docker.io" in installed:
        source = names["debian"]
    elif lacking:
        raise AnsibleFilterError(
            f"This server has a Docker engine from neither Debian, Ubuntu nor Docker's packages, "
            f"and no docker {' and no docker '.join(lacking)}. Install that beside it"
        )
    else:
        source = {}
    return [*(source[tool] for tool in lacking), "python3-requests"]


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "daemon_options": daemon_options,
            "engine_major": engine_major,
            "has_ipv6": has_ipv6,
            "health_pace": health_pace,
            "ipv6_options": ipv6_options,
            "missing_packages": missing_packages,
            "translates_ipv6": translates_ipv6,
        }
