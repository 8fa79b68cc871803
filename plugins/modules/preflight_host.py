#!/usr/bin/python
"""Ansible module: inspect a server before anything on it changes, with or without root."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.names import Names
from ansible.module_utils.paths import SERVER_DIR

DOCUMENTATION = r"""
module: preflight_host
short_description: Inspect a server before anything on it changes
description:
  - Finds out which program listens on each port, how much space Docker has, which Postgres version
    each volume needs, what domains resolve to, and whether a certificate authority answers.
  - Works without root as well. What only root may see is then null in the result.
options:
  ports:
    description: Ports to look at.
    type: list
    elements: int
    required: true
  domains:
    description: Names to resolve.
    type: list
    elements: str
    default: []
  apps:
    description: Apps whose Postgres volume to look at.
    type: list
    elements: str
    default: []
  reach:
    description: Servers to connect to, each as HOST:PORT.
    type: list
    elements: str
    default: []
  directory:
    description: URL of an ACME directory to request.
    type: str
    default: ""
  bundle:
    description: CA certificates of that directory's server, in PEM format.
    type: str
    default: ""
  root:
    description: The project's folder on the server.
    type: path
    default: /opt/flask-vps
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Inspect the server
  preflight_host:
    ports: [80, 443]
    domains: [shop.example.org]
    apps: [shop]
"""

RETURN = r"""
root:
  description: Whether the module ran as root.
  type: bool
  returned: always
listeners:
  description: What listens on each port. C(kind) is V(container), V(process) or V(unknown).
  type: list
  elements: dict
  returned: always
docker_root:
  description: Folder in which Docker keeps its data, or will keep it.
  type: str
  returned: always
engine:
  description: Version and origin of the Docker engine.
  type: dict
  returned: always
free_mb:
  description: Free space in that folder, in MB.
  type: int
  returned: always
edge:
  description: Whether the edge was set up on this server.
  type: bool
  returned: always
deployed:
  description: Apps that have a release on this server.
  type: list
  elements: str
  returned: always
postgres:
  description: Major version of Postgres in the volume of each app.
  type: dict
  returned: always
certified:
  description: Domains that have a certificate on this server.
  type: list
  elements: str
  returned: always
resolved:
  description: Addresses of each domain, or the error.
  type: dict
  returned: always
directory:
  description: Why the ACME directory does not answer, or an empty string.
  type: str
  returned: always
reached:
  description: For each HOST:PORT why a connection failed, or an empty string.
  type: dict
  returned: always
directory_in_use:
  description: Whether the edge requests certificates from this directory already.
  type: bool
  returned: always
"""

SOCKET = "/var/run/docker.sock"
WEB_SERVERS = {"apache2", "caddy", "haproxy", "httpd", "lighttpd", "nginx", "traefik", "varnishd"}
LISTEN = "0A"


class Engine(http.client.HTTPConnection):
    """Client of Docker's API on its socket; a bare server has no library for that."""

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(SOCKET)


def ask_engine(path: str) -> Any:
    """Request Docker's API; None if no engine answers, or this user has no access."""
    engine = Engine("localhost", timeout=5)
    try:
        engine.request("GET", path)
        answer = engine.getresponse()
        return json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        engine.close()


def listening_sockets(tables: Iterator[str]) -> dict[int, set[str]]:
    """
    Find the ports that are in use.

    Parameters
    ----------
    tables : iterator of str
        Contents of /proc/net/tcp and /proc/net/tcp6.

    Returns
    -------
    dict
        Inodes of the sockets by port.
    """
    found: dict[int, set[str]] = {}
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTEN:
                port = int(fields[1].rpartition(":")[2], 16)
                found.setdefault(port, set()).add(fields[9])
    return found


def process_of(inodes: set[str]) -> str:
    """Name the process with one of these sockets; empty if it is not visible."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in wanted:  # noqa: PTH115  # no pathlib before 3.9
                        name = (process / "comm").read_text().strip()
                        return f"{name} (process {process.name})"
    return ""


def web_servers() -> list[str]:
    """Name the well-known web servers that run here, under any user."""
    names = set()
    for process in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            names.add(process.read_text().strip())
    return sorted(names & WEB_SERVERS)


def listeners(ports: list[int]) -> list[dict[str, Any]]:
    """Describe what uses each of the ports; free ports are left out."""
    tables = (Path(f"/proc/net/{name}") for name in ("tcp", "tcp6"))
    sockets = listening_sockets(table.read_text() for table in tables if table.exists())
    containers = ask_engine("/containers/json")
    found = []
    for port in ports:
        owner = publisher(containers or [], port)
        if owner:
            found.append({"port": port, "kind": "container", **owner})
        elif port in sockets:
            process = process_of(sockets[port])
            kind = "process" if process else "unknown"
            found.append({"port": port, "kind": kind, "name": process, "maybe": web_servers()})
    return found


def publisher(containers: list[dict[str, Any]], port: int) -> dict[str, str] | None:
    """Name the running container that publishes a port, and its compose project."""
    for container in containers:
        if any(p.get("PublicPort") == port for p in container.get("Ports") or []):
            project = (container.get("Labels") or {}).get("com.docker.compose.project", "")
            return {"name": container["Names"][0].lstrip("/"), "project": project}
    return None


def docker_root() -> Path:
    """Find the folder of Docker's data: from the engine, its configuration, or the default."""
    info = ask_engine("/info")
    if info and info.get("DockerRootDir"):
        return Path(info["DockerRootDir"])
    with contextlib.suppress(OSError, ValueError):
        options = json.loads(Path("/etc/docker/daemon.json").read_text())
        return Path(options.get("data-root") or "/var/lib/docker")
    return Path("/var/lib/docker")


def describe_engine(root: Path) -> dict[str, Any]:
    """Describe the engine of this server."""
    version = ask_engine("/version") or {}
    parts = " ".join(str(part.get("Name")) for part in version.get("Components") or [])
    return {
        "version": str(version.get("Version") or ""),
        "podman": "Podman" in parts,
        "snap": root.is_relative_to("/var/snap") or Path("/snap/bin/docker").exists(),
    }


def free_mb(folder: Path) -> int:
    """Measure the free space for a folder, which need not exist yet."""
    while True:
        try:
            space = os.statvfs(folder)
        except OSError:
            folder = folder.parent
            continue
        return space.f_bavail * space.f_frsize // 2**20


def postgres_version(volumes: Path, app: str) -> str:
    """Read the Postgres version of an app's volume; empty if there is none."""
    folder = volumes / Names(app).database_volume / "_data"
    for data in ("pgdata", ""):
        with contextlib.suppress(OSError):
            return (folder / data / "PG_VERSION").read_text().strip()
    return ""


def resolve(names: list[str], seconds: float = 8) -> dict[str, dict[str, Any]]:
    """Resolve names in parallel, because a resolver that does not answer takes long."""
    found: dict[str, dict[str, Any]] = {
        name: {"addresses": [], "error": "the resolver does not answer"} for name in names
    }

    def ask(name: str) -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            found[name] = {"addresses": sorted({str(a[4][0]) for a in answers}), "error": ""}
        except (OSError, UnicodeError) as error:
            found[name] = {"addresses": [], "error": getattr(error, "strerror", "") or str(error)}

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def reach(targets: list[str], seconds: float = 8) -> dict[str, str]:
    """Connect to servers in parallel, each as ``HOST:PORT``; return why that failed."""
    found = dict.fromkeys(targets, "timed out")

    def ask(target: str) -> None:
        host, _, port = target.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            found[target] = ""
        except (OSError, UnicodeError, ValueError) as error:
            found[target] = getattr(error, "strerror", "") or str(error)

    threads = [threading.Thread(target=ask, args=(t,), daemon=True) for t in targets]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def directory_error(url: str, bundle: str) -> str:
    """Return why an ACME directory cannot be used; empty if it can."""
    context = ssl.create_default_context()
    # Python 3.13 is stricter with a private CA's certificate than acme.sh and curl.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if bundle:
        try:
            context.load_verify_locations(cadata=bundle)
        except (ssl.SSLError, ValueError) as error:
            return f"the CA bundle contains no certificate ({error})"
    elif not context.cert_store_stats()["x509_ca"] and not _has_certificates():
        # A bare server has no list of authorities; the companion has its own.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=8, context=context) as answer:  # noqa: S310
            directory = json.load(answer)
    except urllib.error.HTTPError as error:
        return f"it answers with status {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error))
    except ValueError:
        return "its answer is not an ACME directory"
    known = isinstance(directory, dict) and "newOrder" in directory
    return "" if known else "its answer is not an ACME directory"


def _has_certificates() -> bool:
    folder = ssl.get_default_verify_paths().capath
    return bool(folder) and any(Path(folder).glob("*.0"))


def deployed_apps(root: Path) -> list[str]:
    """List the apps that have a release on this server."""
    with contextlib.suppress(OSError):
        return sorted(path.parent.name for path in root.glob("apps/*/current"))
    return []


def text_of(path: Path) -> str:
    """Read a file; empty if that fails."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "required": True},
            "domains": {"type": "list", "elements": "str", "default": []},
            "apps": {"type": "list", "elements": "str", "default": []},
            "reach": {"type": "list", "elements": "str", "default": []},
            "directory": {"type": "str", "default": ""},
            "bundle": {"type": "str", "default": ""},
            "root": {"type": "path", "default": SERVER_DIR},
        },
        supports_check_mode=True,
    )
    wanted, project = module.params, Path(module.params["root"])
    data = docker_root()
    volumes = data / "volumes"
    compose = text_of(project / "edge/compose.yml")
    directory = wanted["directory"]
    certificates = volumes / "edge_certs/_data"
    module.exit_json(
        root=os.geteuid() == 0,
        listeners=listeners(wanted["ports"]),
        docker_root=str(data),
        engine=describe_engine(data),
        free_mb=free_mb(data),
        edge=bool(compose),
        deployed=deployed_apps(project),
        postgres={app: postgres_version(volumes, app) for app in wanted["apps"]},
        certified=[d for d in wanted["domains"] if os.access(certificates / f"{d}.crt", os.R_OK)],
        resolved=resolve([d for d in wanted["domains"] if not re.search(r"[^a-z0-9.-]", d)]),
        reached=reach(wanted["reach"]),
        directory=directory_error(directory, wanted["bundle"]) if directory else "",
        directory_in_use=bool(directory) and directory in compose,
    )


if __name__ == "__main__":
    main()
