"""The model of an app: an entry of ``apps`` with every default and all derived values."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import idna
import yaml
from module_utils.releases import LINKS

ROLE = Path(__file__).parents[2] / "roles" / "app"

# As strict as Docker's names of images: no separators at the ends, and no mixed ones.
NAME = re.compile(r"(?=.{1,31}\Z)[a-z][a-z0-9]*(?:(?:-+|__?)[a-z0-9]+)*")
GIT_URL = re.compile(r"(https?|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+")
VOLUME = re.compile(r"(/[A-Za-z0-9_.-]+)+")
# pip can install an app from any of these files.
INSTALLABLE = ("requirements.txt", "pyproject.toml", "Pipfile.lock", "setup.py")
# Programs of a build command that need Node.
NODE = re.compile(r"(?<![\w./-])(npm|npx|node|yarn|pnpm)(?![\w-])")
# BuildKit secrets that a build may need for its downloads.
BUILD_SECRETS = ("ca_bundle", "pip_index_url")
# Smallest and largest allowed value.
RANGES = {
    "processes": (1, 64),
    "threads": (1, 256),
    "upload_mb": (1, 65536),
    "memory_mb": (32, 1048576),
    "port": (1, 65535),
}
# Keys whose default is a variable of the inventory.
INHERITED = {"memory_mb": "app_memory_mb", "tls": "tls"}
# Keys that affect only the edge or the jobs, so a new value makes no new release. Of the source
# only its content counts, not its address.
NOT_OF_RELEASE = {
    *("source", "version", "folder", "state", "domains", "upload_mb"),
    *("tls", "certificate", "certificate_key", "cron"),
}


@cache
def entry_options() -> dict[str, dict[str, Any]]:
    """Read the keys of an entry, with their types and defaults, from the role's argument spec."""
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    options = specs["main"]["options"]["app_entry"]["options"]
    return {key: option for key, option in options.items() if key != "given"}


def setting(entry: Mapping[str, Any], key: str) -> Any:
    """Return an entry's value, or the key's default; works on entries that are not checked yet."""
    value = entry.get(key)
    return entry_options()[key].get("default") if value is None else value


def is_present(entry: Mapping[str, Any]) -> bool:
    """Tell whether an app is present; works on entries that are not checked yet."""
    return setting(entry, "state") != "absent"


def has_postgres(entry: Mapping[str, Any]) -> bool:
    """Tell whether an app has its own Postgres; works on entries that are not checked yet."""
    return setting(entry, "database") == "postgres"


def required_secrets(entry: Mapping[str, Any]) -> list[str]:
    """List the secrets that an app requires."""
    key = [] if entry.get("dockerfile") else ["SECRET_KEY"]
    return key + (["POSTGRES_PASSWORD"] if has_postgres(entry) else [])


def is_git(source: str) -> bool:
    """Tell whether a source is a git URL and not a folder."""
    return GIT_URL.fullmatch(source) is not None


def ascii_domain(domain: str) -> str:
    """
    Convert a host name to the form that DNS and certificates use.

    Parameters
    ----------
    domain : str
        A host name, which may be international (``bücher.example``).

    Returns
    -------
    str
        Lower case, international labels as Punycode (``xn--bcher-kva.example``).

    Raises
    ------
    ValueError
        If a label is not valid (IDNA 2008 with UTS 46 mapping).
    """
    if domain.isascii() and "xn--" not in domain.lower():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(str(error)) from error


def volume_path(path: str) -> str | None:
    """Return the path of a volume without a trailing slash, or None if it is not valid."""
    plain = str(PurePosixPath(path))
    if not VOLUME.fullmatch(plain) or {".", ".."} & set(plain.split("/")):
        return None
    return plain


def volume_name(path: str) -> str:
    """Derive the name of a volume from its path in the container."""
    return path.strip("/").replace("/", "-")


@dataclass(frozen=True)
class App:
    """
    One app, completed: every key of its entry has a value.

    The fields are the options of ``app_entry`` in the argument spec of the role ``app``, which
    documents them.
    """

    name: str
    state: str
    source: str
    version: str
    folder: str
    domains: list[str]
    module: str
    init: str
    static: str
    python: str
    requirements: str
    extras: list[str]
    groups: list[str]
    build: str
    health: str
    processes: int
    threads: int
    workers: list[dict[str, str]]
    cron: list[dict[str, str]]
    environment: dict[str, Any]
    upload_mb: int
    memory_mb: int
    database: str
    volumes: list[str]
    packages: list[str]
    build_packages: list[str]
    dockerfile: str
    port: int | None
    protocol: str
    build_secrets: list[str]
    tls: str
    certificate: str
    certificate_key: str
    given: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_entry(
        cls, entry: Mapping[str, Any], inherited: Mapping[str, Any] | None = None
    ) -> App:
        """
        Complete an entry.

        Parameters
        ----------
        entry : mapping
            An entry of ``apps`` that preflight has checked, or one that is complete already.
        inherited : mapping, optional
            Values of the variables that `INHERITED` names.

        Returns
        -------
        App
            The app.

        Raises
        ------
        ValueError
            If a value is not of its key's type.
        """
        values = {}
        for key, option in entry_options().items():
            value = setting(entry, key)
            if value is None and key in INHERITED:
                value = (inherited or {}).get(INHERITED[key])
            values[key] = _converted(value, option)
        values["domains"] = [ascii_domain(domain) for domain in values["domains"]]
        return cls(**values, given=_plain(entry.get("given") or entry))

    # -- what it is -------------------------------------------------------------------------------

    @property
    def has_dockerfile(self) -> bool:
        """Whether the app has its own image, which listens on a port and not on a socket."""
        return bool(self.dockerfile)

    @property
    def kind(self) -> str:
        """The protocol of a release's socket: ``http`` to the relay of an app's own image."""
        return "http" if self.has_dockerfile else "uwsgi"

    @property
    def image(self) -> str:
        """Repository of the app's images; the tag is a release's id."""
        return f"flask-vps/{self.name}"

    @property
    def mounts(self) -> list[dict[str, str]]:
        """
        Volumes, each with its ``name`` and its ``path`` in the container.

        The dot, which no app has in its name, keeps the volumes of `a` apart from those of `a-b`.
        """
        paths = [volume_path(path) or path for path in self.volumes]
        if self.database == "sqlite":
            paths.append("/data")
        return [
            {"name": f"{self.name}.{volume_name(path)}", "path": path}
            for path in dict.fromkeys(paths)
        ]

    @property
    def release_keys(self) -> dict[str, Any]:
        """The part of the entry that a release is named after."""
        return {key: value for key, value in self.given.items() if key not in NOT_OF_RELEASE}

    # -- its build --------------------------------------------------------------------------------

    @property
    def source_needs(self) -> dict[str, list[str]]:
        """What the source must contain: for each variable, paths of which one is enough."""
        needs = {key: [getattr(self, key)] for key in ("dockerfile", "static")}
        if self.build:
            # The build may make the folder.
            del needs["static"]
        if self.requirements and not self.has_dockerfile:
            needs["requirements"] = [self.requirements]
        needs = {key: paths for key, paths in needs.items() if paths[0]}
        if not self.has_dockerfile and not self.requirements:
            needs["source"] = list(INSTALLABLE)
        return {f"apps.{self.name}.{key}": paths for key, paths in needs.items()}

    @property
    def build_arguments(self) -> dict[str, str]:
        """The arguments of the recipe that follow from the entry alone."""
        if self.has_dockerfile:
            return {}
        found = {
            "BUILD_PACKAGES": " ".join(self.build_packages),
            "PACKAGES": " ".join(self.packages),
        }
        # An argument that no key asks for keeps its default, and with it the build cache.
        wanted = {
            "REQUIREMENTS": self.requirements,
            "EXTRAS": " ".join(self.extras),
            "DEPENDENCY_GROUPS": " ".join(self.groups),
        }
        if self.build:
            shown = {"APP_ENV": "production", "FLASK_APP": self.module, **self.environment}
            wanted |= {
                "CODE": "built",
                "BUILD": self.build,
                "BUILD_ENVIRONMENT": json.dumps(shown, default=str, sort_keys=True),
                "NODE_PACKAGES": "nodejs npm" if NODE.search(self.build) else "",
            }
        return found | {name: value for name, value in wanted.items() if value}

    @property
    def build_reads(self) -> list[str]:
        """Secrets that the build may read; with an own Dockerfile, those in ``build_secrets``."""
        if not self.has_dockerfile:
            return [*BUILD_SECRETS, "build_secrets"]
        known = [name for name in BUILD_SECRETS if name in self.build_secrets]
        return known + [str(name) for name in self.build_secrets if name not in BUILD_SECRETS]

    @property
    def loader(self) -> str:
        """
        The line of ``uwsgi.ini`` that loads the app.

        uWSGI's ``module`` supports neither arguments nor dotted callables, which are loaded by
        Python code instead.
        """
        path, _, target = self.module.partition(":")
        if re.fullmatch(r"\w*(\(\))?", target):
            return f"module = {self.module}"
        name = re.split(r"\W", target, maxsplit=1)[0]
        # In uWSGI's files a percent sign begins a placeholder.
        code = f"from {path} import {name}; application = {target}".replace("%", "%%")
        return f"eval = {code}"

    # -- its secrets and variables ----------------------------------------------------------------

    def secrets(self, given: Mapping[str, str]) -> dict[str, str]:
        """
        Join the app's secrets with those that follow from them.

        Parameters
        ----------
        given : mapping of str to str
            The app's part of ``vault_app_secrets``.

        Returns
        -------
        dict of str to str
            All secrets by name. A ``DATABASE_URL`` in `given` wins over the derived one.
        """
        url = {}
        if self.database == "postgres" and "POSTGRES_PASSWORD" in given:
            password = quote(str(given["POSTGRES_PASSWORD"]), safe="")
            url = {"DATABASE_URL": f"postgresql://{self.name}:{password}@db:5432/{self.name}"}
        elif self.database == "sqlite":
            url = {"DATABASE_URL": "sqlite:////data/app.db"}
        return {**url, **given}

    def shared_secrets(self, given: Collection[str]) -> list[str]:
        """List the secrets that the database shares, which a rollback must not change."""
        is_ours = self.database == "postgres" and "DATABASE_URL" not in given
        return ["DATABASE_URL", "POSTGRES_PASSWORD"] if is_ours else []

    def variables(self, secrets: Collection[str]) -> dict[str, Any]:
        """
        List the app's environment variables.

        Parameters
        ----------
        secrets : collection of str
            Names of its secrets, each of which is a file.

        Returns
        -------
        dict of str to Any
            Values by name. Those of the entry come last, so that they win.
        """
        found: dict[str, Any] = {
            "APP_ENV": "production",
            "TRUSTED_PROXY_HOPS": "1",
            "HEALTH_HOST": self.domains[0],
            "HEALTH_PATH": self.health,
            "HOME": "/tmp",  # noqa: S108  # of the container
            "USER": self.name,
        }
        if self.module:
            found["FLASK_APP"] = self.module
        if self.has_dockerfile:
            # The image does not know which proxies to trust, or the port.
            found |= {"FORWARDED_ALLOW_IPS": "*", "PORT": str(self.port)}
        found |= {f"{name}_FILE": f"/run/secrets/{name}" for name in secrets}
        return found | self.environment

    # -- for playbooks and templates --------------------------------------------------------------

    def entry(self) -> dict[str, Any]:
        """Return the completed entry, as the role ``app`` takes it."""
        return asdict(self)

    def derived(self, given: Mapping[str, str] | None = None) -> dict[str, Any]:
        """
        Return what follows from the entry, for templates and tasks.

        Parameters
        ----------
        given : mapping of str to str, optional
            The app's part of ``vault_app_secrets``. Only names of secrets are returned.

        Returns
        -------
        dict of str to Any
            Values by name.
        """
        secrets = sorted(self.secrets(given or {}))
        return {
            "build_arguments": self.build_arguments,
            "build_reads": self.build_reads,
            "has_dockerfile": self.has_dockerfile,
            "image": self.image,
            "is_git": is_git(self.source),
            "kind": self.kind,
            "link": LINKS[self.kind],
            "loader": self.loader,
            "mounts": self.mounts,
            "secrets": secrets,
            "shared_secrets": self.shared_secrets(given or {}),
            "source_needs": self.source_needs,
            "variables": self.variables(secrets) if self.domains else {},
        }


def _converted(value: Any, option: Mapping[str, Any]) -> Any:
    """Convert a value to its option's type; unset values become empty, unset numbers None."""
    kind = option.get("type", "str")
    if kind == "int":
        return None if value is None else int(str(value).strip())
    if kind in ("list", "dict"):
        return _plain(value or {"list": [], "dict": {}}[kind])
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    """Copy a value into plain Python containers, because Ansible's cannot be copied."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
