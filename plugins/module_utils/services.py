"""
The model of a service beside an app, such as Valkey: an element of ``services`` with its defaults.

A service of a known kind is described by a file ``roles/services/definitions/KIND.yml``. Its image
has the same name in the role ``images``::

    aliases     further names, for ``services`` and in the network
    password    name of the secret that it needs
    urls        secrets of the app that follow, as templates of ``{host}`` and ``{password}``
    data        folder of its files; without this field it keeps none
    memory_mb   default memory limit in MiB
    command     the program and its arguments; ``{data_mb}`` is the memory for data
    settings    contents of ``/run/secrets/settings``; also ``{password_sha256}``
    persistent  further settings of a service that keeps its data
    volatile    further settings of one that does not (``persist: false``)
    health      shell command that succeeds when it is well
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from module_utils.names import Names

DEFINITIONS = Path(__file__).parents[2] / "roles" / "services" / "definitions"
# User and group ID of services of a known kind, as in Debian's and upstream's images.
USER = "999:999"
# Memory limit of a service by image, in MiB.
MEMORY_MB = 256


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Read the definitions of all kinds of services."""
    files = sorted(DEFINITIONS.glob("*.yml"))
    return {file.stem: yaml.safe_load(file.read_text()) for file in files}


def kind_of(name: str) -> str:
    """Return the kind that a name stands for, or an empty string."""
    for kind, definition in definitions().items():
        if name in (kind, *definition.get("aliases", [])):
            return kind
    return ""


def names_of_kinds() -> list[str]:
    """List all names of known kinds."""
    return [n for k, d in definitions().items() for n in (k, *d.get("aliases", []))]


@dataclass(frozen=True)
class Service:
    """
    One service, with a value for every key; the keys are those of ``services`` in the entry.

    Parameters
    ----------
    name : str
        Its name, which is its host name in the app's network.
    kind : str
        Its kind; empty for a service by image.
    owner : str
        The app whose service it is; empty for the app's own.
    """

    name: str
    kind: str = ""
    owner: str = ""
    image: str = ""
    command: list[str] = field(default_factory=list)
    user: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    writable: list[str] = field(default_factory=list)
    read_only: bool = True
    persist: bool = True
    memory_mb: int = MEMORY_MB
    health: str = ""
    more_urls: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, given: Any) -> Service:
        """
        Complete an element of ``services``.

        Parameters
        ----------
        given : str or mapping
            The name of a kind, or a dictionary, which preflight has checked.

        Returns
        -------
        Service
            The service.
        """
        keys = {"name": given} if isinstance(given, str) else dict(given or {})
        image = str(keys.get("image") or "")
        kind = "" if image else kind_of(str(keys.get("name")))
        definition = definitions().get(kind, {})
        command, persist = keys.get("command"), keys.get("persist")
        words = shlex.split(command) if isinstance(command, str) else command
        password = [definition["password"]] if "password" in definition else []
        keeps = "data" in definition and is_true(persist, default=True)
        return cls(
            name=kind or str(keys.get("name")),
            kind=kind,
            owner=str(keys.get("from") or ""),
            image=image,
            command=definition.get("command") or [str(word) for word in words or []],
            user=USER if kind else str(keys.get("user") or ""),
            environment=dict(keys.get("environment") or {}),
            secrets=password or [str(name) for name in keys.get("secrets") or []],
            paths=[definition["data"]] if keeps else [str(p) for p in keys.get("volumes") or []],
            # If an image declares the folder as a volume, Docker would add an anonymous one.
            writable=[definition["data"]]
            if "data" in definition and not keeps
            else [str(path) for path in keys.get("writable") or []],
            read_only=is_true(keys.get("read_only"), default=True),
            persist=keeps,
            memory_mb=int(keys.get("memory_mb") or definition.get("memory_mb") or MEMORY_MB),
            health=str(definition.get("health") or keys.get("health") or ""),
            more_urls=[str(name) for name in keys.get("urls") or []],
        )

    @property
    def definition(self) -> dict[str, Any]:
        """The definition of its kind; empty for a service by image."""
        return definitions().get(self.kind, {})

    @property
    def url_names(self) -> list[str]:
        """Secrets of the app that follow from the service."""
        return list(self._templates)

    @property
    def _templates(self) -> dict[str, str]:
        templates = self.definition.get("urls", {})
        first = next(iter(templates.values()), "")
        return {**dict.fromkeys(self.more_urls if first else (), first), **templates}

    @property
    def hosts(self) -> list[str]:
        """Its names in the networks of the apps."""
        return [self.name, *self.definition.get("aliases", [])]

    @property
    def data_mb(self) -> int:
        """Memory for data in MiB: rewriting a file of data may take as much again."""
        return max(1, self.memory_mb // 2 if self.persist else self.memory_mb * 3 // 4)

    def urls(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the secrets that follow, unless the vault lacks the service's password."""
        name = self.definition.get("password")
        if name and name not in given:
            return {}
        password = quote(str(given[name]), safe="") if name else ""
        templates = self._templates
        return {k: t.format(host=self.name, password=password) for k, t in templates.items()}

    def settings(self, given: Mapping[str, str]) -> str:
        """Return the contents of its settings file, which is a secret; empty if it has none."""
        if "settings" not in self.definition:
            return ""
        more = self.definition.get("persistent" if self.persist else "volatile", "")
        password = str(given.get(self.definition.get("password", ""), ""))
        values = {
            "data_mb": self.data_mb,
            "password_sha256": hashlib.sha256(password.encode()).hexdigest(),
        }
        return (self.definition["settings"] + more).format(**values)

    def plan(self, app: str, sharers: Iterable[str] = ()) -> dict[str, Any]:
        """
        Describe the service for the role ``services``.

        Parameters
        ----------
        app : str
            The app whose service it is.
        sharers : iterable of str
            Other apps that use it.

        Returns
        -------
        dict of str to Any
            Values by name, without secrets.
        """
        return {
            "app": app,
            "name": self.name,
            "kind": self.kind,
            "image": self.image,
            "project": Names(app).service(self.name),
            "apps": [app, *sharers],
            "networks": [Names(name).networks["backend"] for name in (app, *sharers)],
            "hosts": self.hosts,
            "command": [word.format(data_mb=self.data_mb) for word in self.command]
            if self.kind
            else self.command,
            "user": self.user,
            "environment": self.environment,
            "secrets": self.secrets,
            "has_settings": "settings" in self.definition,
            "persist": self.persist,
            "volumes": [
                {
                    "name": Names(app).volume(f"{self.name}.{path.strip('/').replace('/', '-')}"),
                    "path": path,
                }
                for path in self.paths
            ],
            "writable": self.writable,
            "read_only": self.read_only,
            "memory_mb": self.memory_mb,
            "health": self.health,
        }


def is_true(value: Any, default: bool) -> bool:
    """Read a boolean as Ansible does; None stands for the default."""
    if value is None:
        return default
    return str(value).strip().lower() in ("true", "yes", "on", "y", "t", "1", "1.0")


def services_of(entry: Mapping[str, Any]) -> list[Service]:
    """List the services of an entry, which may be unchecked: what is malformed is left out."""
    found = []
    listed = entry.get("services")
    for given in listed if isinstance(listed, list | tuple) else []:
        if isinstance(given, str) or (isinstance(given, Mapping) and given.get("name")):
            try:
                found.append(Service.of(given))
            except (TypeError, ValueError):
                continue
    return found


def service_secrets(entry: Mapping[str, Any]) -> list[str]:
    """List the secrets that the services of an entry require, without those of other apps."""
    own = [service for service in services_of(entry) if not service.owner]
    return list(dict.fromkeys(s.definition["password"] for s in own if "password" in s.definition))


def services_memory(entry: Mapping[str, Any]) -> int:
    """Add up the memory limits of an entry's own services, in MiB."""
    return sum(service.memory_mb for service in services_of(entry) if not service.owner)


def sharers(apps: Iterable[Any], owner: str, name: str) -> list[str]:
    """List the apps that use another app's service."""
    return [
        str(app.get("name"))
        for app in apps
        if isinstance(app, Mapping)
        and app.get("state") != "absent"
        and any(s.owner == owner and s.name == name for s in services_of(app))
    ]


def service_plans(entry: Mapping[str, Any], apps: Collection[Any]) -> list[dict[str, Any]]:
    """
    Describe all services that an app uses, for the role ``services``.

    Parameters
    ----------
    entry : mapping
        The app's entry.
    apps : collection
        All entries of ``apps``.

    Returns
    -------
    list of dict
        One description a service. That of a shared one is the same for each of its apps.
    """
    found = []
    entries = {str(app.get("name")): app for app in apps if isinstance(app, Mapping)}
    for used in services_of(entry):
        owner = used.owner or str(entry["name"])
        of_owner = services_of(entries.get(owner, entry) if used.owner else entry)
        service = next((s for s in of_owner if s.name == used.name and not s.owner), None)
        if service:
            found.append(service.plan(owner, sharers(apps, owner, service.name)))
    return found


def app_vault(
    entry: Mapping[str, Any], vault: Mapping[str, Any], apps: Collection[Any]
) -> dict[str, Any]:
    """
    Add the secrets of services that an app shares with other apps to its own.

    Parameters
    ----------
    entry : mapping
        The app's entry.
    vault : mapping
        ``vault_app_secrets``.
    apps : collection
        All entries of ``apps``.

    Returns
    -------
    dict of str to Any
        The app's secrets by name. Its own win.
    """
    lent = {}
    for plan in service_plans(entry, apps):
        if plan["app"] != entry["name"]:
            theirs = vault.get(plan["app"]) or {}
            lent |= {name: theirs[name] for name in plan["secrets"] if name in theirs}
    return {**lent, **(vault.get(str(entry["name"])) or {})}


def service_files(plan: Mapping[str, Any], vault: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the secrets that a service's container gets as files.

    Parameters
    ----------
    plan : mapping
        What `Service.plan` has returned.
    vault : mapping
        ``vault_app_secrets``.

    Returns
    -------
    dict of str to str
        Contents by name.
    """
    given = vault.get(str(plan["app"])) or {}
    files = {name: str(given[name]) for name in plan["secrets"] if name in given}
    if not plan["has_settings"]:
        return files
    service = Service(
        name=str(plan["name"]),
        kind=str(plan["kind"]),
        persist=bool(plan["persist"]),
        memory_mb=int(plan["memory_mb"]),
    )
    return {**files, "settings": service.settings(files)}


def service_kinds(apps: Collection[Any]) -> list[str]:
    """List the kinds of services that the present apps have, which name their images."""
    present = [a for a in apps if isinstance(a, Mapping) and a.get("state") != "absent"]
    return sorted({s.kind for app in present for s in services_of(app) if s.kind and not s.owner})


def service_leftovers(containers: Collection[Mapping[str, Any]], entry: Mapping[str, Any]) -> list:
    """
    Pick the containers of services that an app no longer has.

    Parameters
    ----------
    containers : collection of mapping
        Containers of the app's services, as the engine lists them.
    entry : mapping
        The app's entry.

    Returns
    -------
    list of str
        Names of containers.
    """
    names = Names(str(entry["name"]))
    wanted = {names.service(s.name) for s in services_of(entry) if not s.owner}
    return [
        c["Names"][0].lstrip("/")
        for c in containers
        if (c.get("Labels") or {}).get("com.docker.compose.project") not in wanted
    ]


def unlisted_folders(image: Mapping[str, Any], listed: Collection[str]) -> list[str]:
    """Name the folders that an image wants to keep, and that its service does not list."""
    folders = (image["Config"].get("Volumes") or {}).keys()
    return sorted({folder.rstrip("/") for folder in folders} - set(listed))
