"""Rules for a server before anything on it changes, from its facts and preflight_host."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

from module_utils.names import Names

from checks.domains import LOCAL
from checks.memory import check_memory
from checks.report import Finding

DISTRIBUTIONS = {"Debian": ("12", "13"), "Ubuntu": ("24.04",)}
ARCHITECTURES = ("x86_64", "aarch64")
MEMORY_MB = (450, 900)
# The engine of Debian 12.
OLDEST_ENGINE = 20
# A new server needs room for images, and for one more release of each app.
DISK_MB = (3000, 8000)
# On a server in use, a new release must not take the last space of the databases.
DISK_IN_USE_MB = (500, 3000)


@dataclass
class Server:
    """
    What preflight knows about a server.

    Parameters
    ----------
    name : str
        Its name in the inventory.
    facts : dict
        Ansible's facts.
    seen : dict
        What the module preflight_host returned.
    addresses : set of str
        The server's addresses beyond those of its interfaces, such as ``ansible_host``.
    ports : list of int
        Ports of the edge.
    dns : str
        Whether a domain that does not resolve is an ``error`` or a ``warning``.
    postgres : int or None
        Major version of the image; None when its tag does not show it.
    versions : dict of str to int
        Major version of Postgres of each app that chooses one.
    apps : list of str
        Names of all apps of the inventory, absent ones too.
    resolves : set of str
        Domains whose certificates come from an authority.
    ca : str
        URL of the authority's directory; empty when no certificate comes from one.
    limits : dict of str to int
        Memory that each app may use with its database, in MiB.
    """

    name: str
    facts: dict[str, Any]
    seen: dict[str, Any]
    addresses: set[str] = field(default_factory=set)
    ports: list[int] = field(default_factory=lambda: [80, 443])
    dns: str = "error"
    postgres: int | None = None
    versions: dict[str, int] = field(default_factory=dict)
    apps: list[str] = field(default_factory=list)
    resolves: set[str] = field(default_factory=set)
    ca: str = ""
    limits: dict[str, int] = field(default_factory=dict)


def check_server(server: Server) -> list[Finding]:
    """Check a server; findings name it as ``NAME: WHAT``."""
    return [
        *_system(server),
        *_memory(server),
        *_disk(server),
        *_ports(server),
        *_engine(server),
        *_postgres(server),
        *_domains(server),
        *_authority(server),
        *_strangers(server),
    ]


def postgres_major(image: Any) -> int | None:
    """Read the major version from an image's name, such as ``postgres:17.2-trixie``."""
    match = re.search(r":(\d+)(?=[.@-]|$)", str(image).rpartition("/")[2])
    return int(match[1]) if match else None


def looked_up(domains: set[str]) -> set[str]:
    """Leave out names that are never in the public DNS."""
    return {domain for domain in domains if not LOCAL.search(domain)}


def _system(server: Server) -> list[Finding]:
    facts, found = server.facts, []
    name = str(facts.get("distribution", ""))
    version = str(facts.get("distribution_version", ""))
    major = version if name == "Ubuntu" else str(facts.get("distribution_major_version", ""))
    if facts and major not in DISTRIBUTIONS.get(name, ()):
        value = f"{name or facts.get('system')} {version}".strip()
        fix = "Use Debian 13 or 12, or Ubuntu 24.04"
        found.append(Finding(f"{server.name}: system", "is not supported", fix, value))
    manager = facts.get("service_mgr", "systemd")
    if manager != "systemd":
        wrong = (
            "does not run systemd, which loads the rules that close the server to containers, and "
            "restarts containers that hang"
        )
        fix = "Use a server with systemd for all but trials"
        found.append(Finding(f"{server.name}: system", wrong, fix, manager, warning=True))
    machine = facts.get("architecture")
    if facts and (machine not in ARCHITECTURES or str(facts.get("userspace_bits", 64)) == "32"):
        value = f"{machine}, {facts.get('userspace_bits')} bits"
        fix = "Use a 64-bit system for x86_64 (amd64) or aarch64 (arm64)"
        found.append(Finding(f"{server.name}: architecture", "is not supported", fix, value))
    return found


def _memory(server: Server) -> list[Finding]:
    memory = server.facts.get("memtotal_mb")
    if not isinstance(memory, int):
        return []
    if memory >= MEMORY_MB[1]:
        return check_memory(server.name, memory, server.limits)
    value = f"{memory} MB"
    if memory < MEMORY_MB[0]:
        fix = "Use a server with 1 GB or more"
        return [Finding(f"{server.name}: memory", "is too small", fix, value)]
    fix = "Use 1 GB or more, or keep processes and memory_mb of the apps low"
    return [Finding(f"{server.name}: memory", "is low", fix, value, warning=True)]


def _disk(server: Server) -> list[Finding]:
    in_use = server.seen.get("edge")
    error, warning = DISK_IN_USE_MB if in_use else DISK_MB
    free, folder = server.seen["free_mb"], server.seen["docker_root"]
    if free >= warning:
        return []
    clean = "`docker system df` shows what takes the space" if in_use else "Use a larger disk"
    fix = f"Keep {warning / 1000:.0f} GB free. {clean}"
    where, value = f"{server.name}: free space for {folder}", f"{free} MB"
    if free < error:
        return [Finding(where, "is too small", fix, value)]
    return [Finding(where, "is low", fix, value, warning=True)]


def _ports(server: Server) -> list[Finding]:
    found = []
    for owner in server.seen["listeners"]:
        where = f"{server.name}: port {owner['port']}"
        fix = "Stop and disable it, or move it to another port"
        if owner["kind"] == "container":
            if owner["project"] == "edge":
                continue
            found.append(Finding(where, f"is taken by the container {owner['name']}", fix))
        elif owner["kind"] == "process":
            found.append(Finding(where, f"is taken by {owner['name']}", fix))
        else:
            guess = f" (perhaps {' or '.join(owner['maybe'])})" if owner.get("maybe") else ""
            wrong = f"is taken{guess}; only root can see by which process"
            # On a server with an edge, it may be the edge itself.
            mild = bool(server.seen.get("edge"))
            fix = f"Look with `ss -ltnp 'sport = :{owner['port']}'` as root"
            found.append(Finding(where, wrong, fix, warning=mild))
    return found


def _engine(server: Server) -> list[Finding]:
    """Find an installed engine that cannot run this project's containers."""
    engine = server.seen.get("engine") or {}
    where, version = f"{server.name}: Docker", str(engine.get("version") or "")
    major = re.match(r"\d+", version)
    if engine.get("snap"):
        wrong = "comes from a snap, which cannot read the folder /opt"
        fix = "Move its containers, `snap remove docker`, and let the play install an engine"
        return [Finding(where, wrong, fix)]
    if engine.get("podman"):
        fix = "Remove podman-docker, or use another server"
        return [Finding(where, "is Podman under Docker's name", fix)]
    if major and int(major[0]) < OLDEST_ENGINE:
        fix = f"Update it to {OLDEST_ENGINE}.10 or newer"
        return [Finding(where, "is too old", fix, version)]
    return []


def _postgres(server: Server) -> list[Finding]:
    found = []
    for app, version in server.seen["postgres"].items():
        wanted = server.versions.get(app, server.postgres)
        if version and wanted and version.split(".")[0] != str(wanted):
            wrong = f"was made by Postgres {version}, but the image is {wanted}"
            fix = (
                f"Keep an image of major version {version} (images_registry.postgres, or "
                "postgres_version of the app), "
                "or dump the database, move the volume away and restore"
            )
            found.append(Finding(f"{server.name}: volume {Names(app).database_volume}", wrong, fix))
    return found


def _domains(server: Server) -> list[Finding]:
    if server.dns == "skip":
        return []
    certified, found = set(server.seen["certified"]), []
    own = {_address(a) for a in server.addresses}
    for kind in ("all_ipv4_addresses", "all_ipv6_addresses"):
        own |= {_address(a) for a in server.facts.get(kind, [])}
    for domain in sorted(looked_up(server.resolves) & set(server.seen["resolved"])):
        answer, where = server.seen["resolved"][domain], f"{server.name}: domain {domain}"
        if not answer["addresses"]:
            wrong = f"does not resolve ({answer['error']})"
            fix = "Make a DNS record that points to this server, or set preflight_dns to warning"
            # A domain with a certificate is still served while its resolver is down.
            mild = server.dns != "error" or domain in certified
            found.append(Finding(where, wrong, fix, warning=mild))
            continue
        addresses = {_address(a) for a in answer["addresses"]}
        away = sorted(str(a) for a in addresses - own if not a.is_loopback)
        if away:
            wrong = f"resolves to {', '.join(away)}, which is not this server"
            fix = "Correct the DNS record, unless a proxy or a CDN forwards requests to this server"
            found.append(Finding(where, wrong, fix, warning=True))
    return found


def _address(text: str) -> Any:
    # A link-local address may include its interface: fe80::1%eth0.
    return ipaddress.ip_address(str(text).partition("%")[0])


def _authority(server: Server) -> list[Finding]:
    error = server.seen["directory"]
    if not server.ca or not error:
        return []
    # A deploy that needs no new certificate may go on while the authority is unreachable.
    mild = bool(server.seen["directory_in_use"]) and server.resolves <= set(
        server.seen["certified"]
    )
    wrong = f"cannot be reached from {server.name}: {error}"
    fix = "Check acme_ca, acme_ca_bundle and the server's network, or set tls to own"
    return [Finding("acme_ca", wrong, fix, server.ca, warning=mild)]


def _strangers(server: Server) -> list[Finding]:
    fix = "To remove it, add it to apps with state: absent; otherwise it keeps running"
    return [
        Finding(f"{server.name}: app {app}", "runs here, but is not in apps", fix, warning=True)
        for app in server.seen["deployed"]
        if app not in server.apps
    ]
