"""The model of an app: an entry of ``apps`` with every default and all derived values."""

from __future__ import annotations

import hashlib
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
from module_utils.names import Names
from module_utils.paths import SERVER_DIR
from module_utils.services import Service, is_true, service_secrets
from module_utils.site import site_of

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
    "timeout_seconds": (1, 3600),
}
# PyPI's packages of each server; the role pins their versions.
SERVER_PACKAGES = {
    "uwsgi": ["uwsgi"],
    "gunicorn": ["gunicorn"],
    "gevent": ["gunicorn", "gevent", "packaging"],
    "asgi": ["gunicorn", "uvicorn", "uvicorn-worker", "websockets"],
}
# After its requests have had their time to finish, a server gets this long to stop, in seconds.
STOP_SECONDS = 15
# Keys whose default is a variable of the inventory.
INHERITED = {"memory_mb": "app_memory_mb", "tls": "tls"}
# Keys that affect only the edge or the jobs, so a new value makes no new release. Of the source
# only its content counts, not its address.
NOT_OF_RELEASE = {
    *("source", "version", "folder", "state", "domains", "upload_mb"),
    *("tls", "certificate", "certificate_key", "cron"),
    *("redirect", "basic_auth", "basic_auth_except", "headers", "gzip", "nginx"),
    # How a build reads what the release is named after anyway.
    "ssh_agent",
    # Of the app's first day, and of its database.
    *("setup", "extensions", "locale", "postgres_version"),
}
# A volume with such a name is a file: the image has a link there, which leads into the volume.
FILE_VOLUME = re.compile(r"/app/.*[^/]\.(log|db|sqlite3?)")
FILES = "/opt/flask-vps/files"
# A file's content in a completed entry, which is shown and recorded.
CONTENT = re.compile(r"sha256:[0-9a-f]{64}")
# Those of one client of Flask-SocketIO: its request, and threads that read, write, ping and handle
# an event.
SOCKET_THREADS = 5
# How many SQLAlchemy opens at most in a process whose requests have no threads.
POOLED_CONNECTIONS = 15
# Connections of an administrator, of the superuser, and of a dump.
SPARE_CONNECTIONS = 10


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


def has_own_image(entry: Mapping[str, Any]) -> bool:
    """Tell whether an app brings its own image; works on entries that are not checked yet."""
    return bool(entry.get("dockerfile") or entry.get("image"))


def required_secrets(entry: Mapping[str, Any]) -> list[str]:
    """List the secrets that an app requires."""
    key = [] if has_own_image(entry) else ["SECRET_KEY"]
    key += ["POSTGRES_PASSWORD"] if has_postgres(entry) else []
    return key + service_secrets(entry)


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
    if domain.startswith("*."):
        return f"*.{ascii_domain(domain[2:])}"
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
    setup: str
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
    files: dict[str, str]
    upload_mb: int
    memory_mb: int
    database: str
    internet: bool
    services: list[Any]
    database_url_scheme: str
    extensions: list[str]
    locale: str
    postgres_version: int | None
    volumes: list[str]
    packages: list[str]
    build_packages: list[str]
    ssh_agent: bool
    dockerfile: str
    port: int | None
    protocol: str
    build_secrets: list[str]
    build_args: dict[str, Any]
    build_target: str
    image: str
    user: str
    read_only: bool
    writable: list[str]
    server: str
    worker_class: str
    timeout_seconds: int
    tls: str
    certificate: str
    certificate_key: str
    redirect: list[str]
    basic_auth: list[str]
    basic_auth_except: list[str]
    headers: dict[str, str]
    gzip: bool
    nginx: str
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
        for key in ("domains", "redirect"):
            values[key] = [ascii_domain(domain) for domain in values[key]]
        values["files"] = _digests(values["files"])
        given = _plain(entry.get("given") or entry)
        if isinstance(given.get("files"), dict):
            given["files"] = _digests(given["files"])
        return cls(**values, given=given)

    # -- what it is -------------------------------------------------------------------------------

    @property
    def has_dockerfile(self) -> bool:
        """Whether the app has its own image, which listens on a port and not on a socket."""
        return bool(self.dockerfile or self.image)

    @property
    def kind(self) -> str:
        """The protocol of a release's socket: ``http`` to the relay of an own image, and others."""
        return "uwsgi" if self.server == "uwsgi" and not self.has_dockerfile else "http"

    @property
    def names(self) -> Names:
        """Names of its projects, containers and networks on a server."""
        return Names(self.name)

    @property
    def dir(self) -> str:
        """The app's folder on a server: its secrets, releases, jobs and dumps."""
        return f"{SERVER_DIR}/apps/{self.name}"

    @property
    def used_services(self) -> list[Service]:
        """Services of the entry, also those of other apps that it uses."""
        return [Service.of(given) for given in self.services]

    @property
    def mounts(self) -> list[dict[str, str]]:
        """Volumes, each with its ``name`` and its ``path`` in the container."""
        paths = [volume_path(path) or path for path in self.volumes]
        if self.database == "sqlite":
            paths.append("/data")
        return [
            {
                "name": self.names.volume(volume_name(path)),
                "path": f"{FILES}/{volume_name(path)}" if path in self.links else path,
            }
            for path in dict.fromkeys(paths)
        ]

    @property
    def links(self) -> dict[str, str]:
        """Files that are volumes: where the app opens each, and where it is in its volume."""
        paths = [volume_path(path) or path for path in self.volumes]
        return {
            path: f"{FILES}/{volume_name(path)}/{PurePosixPath(path).name}"
            for path in ([] if self.has_dockerfile else paths)
            if FILE_VOLUME.fullmatch(path)
        }

    @property
    def brought(self) -> list[dict[str, str]]:
        """Each of ``files``: its ``path``, its ``name`` on the server, its ``target``."""
        return [
            {
                "path": path,
                "name": f"{number}-{PurePosixPath(path).name}",
                "target": str(PurePosixPath("/app") / path),
            }
            for number, path in enumerate(sorted(self.files))
        ]

    @property
    def release_keys(self) -> dict[str, Any]:
        """The part of the entry that a release is named after."""
        return {key: value for key, value in self.given.items() if key not in NOT_OF_RELEASE}

    # -- its server -------------------------------------------------------------------------------

    @property
    def configuration(self) -> str:
        """The file that configures a release's server, or the relay."""
        if self.has_dockerfile:
            return "relay.conf"
        return "uwsgi.ini" if self.server == "uwsgi" else "gunicorn.conf.py"

    @property
    def server_packages(self) -> list[str]:
        """Packages of the server, which the build adds to the app's dependencies."""
        if self.has_dockerfile:
            return []
        key = self.server
        if (self.server, self.worker_class) == ("gunicorn", "gevent"):
            key = "gevent"
        return SERVER_PACKAGES[key]

    @property
    def has_threads(self) -> bool:
        """Whether its server handles each request in a thread of its own."""
        return self.server == "uwsgi" or (self.server, self.worker_class) == ("gunicorn", "gthread")

    @property
    def busy_at(self) -> int:
        """With how many open requests no further one is answered; one may block an event loop."""
        if self.has_threads:
            return self.processes * self.threads
        return self.processes if self.worker_class == "sync" and self.server != "asgi" else 1

    @property
    def stop_seconds(self) -> int:
        """How long a release may take to stop."""
        return self.timeout_seconds + STOP_SECONDS

    @property
    def owner(self) -> int | None:
        """The user ID that owns secrets and volumes, if ``user`` sets it."""
        return int(self.user.partition(":")[0]) if self.user else None

    # -- its build --------------------------------------------------------------------------------

    @property
    def source_needs(self) -> dict[str, list[str]]:
        """What the source must contain: for each variable, paths of which one is enough."""
        if self.image:
            return {}
        needs = {key: [getattr(self, key)] for key in ("dockerfile", "static")}
        if self.has_build:
            # The build may make the folder.
            del needs["static"]
        if self.requirements and not self.has_dockerfile:
            needs["requirements"] = [self.requirements]
        needs = {key: paths for key, paths in needs.items() if paths[0]}
        if not self.has_dockerfile and not self.requirements:
            needs["source"] = list(INSTALLABLE)
        return {f"apps.{self.name}.{key}": paths for key, paths in needs.items()}

    @property
    def has_build(self) -> bool:
        """Whether a command makes files of the image; an image of the app's own has none."""
        return bool(self.build) and not self.has_dockerfile

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
            "LINKS": " ".join(f"{path}={target}" for path, target in self.links.items()),
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
        if self.image:
            return []
        known = [name for name in BUILD_SECRETS if name in self.build_secrets]
        return known + [str(name) for name in self.build_secrets if name not in BUILD_SECRETS]

    @property
    def loader(self) -> str:
        """
        The line of ``uwsgi.ini`` that loads the app.

        Python code loads it, which guards its requests, and supports arguments of factories.
        """
        call = f"wsgi({self.module!r}, {self.timeout_seconds}, {self.processes})"
        # In uWSGI's files a percent sign begins a placeholder.
        call = call.replace("%", "%%")
        return f"eval = import flask_vps_serving; application = flask_vps_serving.{call}"

    @property
    def gunicorn_app(self) -> str:
        """The app in gunicorn's notation: a call whose arguments are literals."""
        if self.server == "asgi":
            name, more = "asgi", ""
        else:
            name, more = "wsgi", f", {self.worker_class!r}"
        values = f"{self.module!r}, {self.timeout_seconds}, {self.processes}"
        return f"flask_vps_serving:{name}({values}{more})"

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
        url: dict[str, str] = {}
        for service in self.used_services:
            urls = service.urls(given).items()
            url |= {name: value for name, value in urls if name not in self.environment}
        if self.database == "postgres" and "POSTGRES_PASSWORD" in given:
            password = quote(str(given["POSTGRES_PASSWORD"]), safe="")
            scheme = self.database_url_scheme or "postgresql"
            url["DATABASE_URL"] = f"{scheme}://{self.name}:{password}@db:5432/{self.name}"
        elif self.database == "sqlite":
            scheme = self.database_url_scheme or "sqlite"
            url["DATABASE_URL"] = f"{scheme}:////data/app.db"
        return {**url, **given}

    def secret_files(self, given: Collection[str]) -> dict[str, str]:
        """
        Name the file of each secret on the server.

        All releases share the files of the database, and a release may expect the address of the
        database in another form than the release after it, so each form has its own file.
        """
        form = f".{self.database_url_scheme}" if self.database_url_scheme else ""
        shared = self.shared_secrets(given)
        return {
            name: name + (form if name == "DATABASE_URL" and name in shared else "")
            for name in sorted(self.secrets(dict.fromkeys(given, "")))
        }

    def shared_secrets(self, given: Collection[str]) -> list[str]:
        """List the secrets that database and services share, which a rollback must not change."""
        is_ours = self.database == "postgres" and "DATABASE_URL" not in given
        found = ["DATABASE_URL", "POSTGRES_PASSWORD"] if is_ours else []
        # A secret that the vault lacks is not derived, and one that it has wins.
        for service in self.used_services:
            found += [name for name in service.url_names if name not in given]
            found += [name for name in service.secrets if name in given]
        return sorted(dict.fromkeys(found))

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
            "HEALTH_BUSY": str(self.busy_at),
            "HEALTH_HOST": site_of(asdict(self))["host"],
            "HEALTH_PATH": self.health,
            "HOME": "/tmp",  # noqa: S108  # of the container
            # Bodies of requests and uploads are buffered here, on the disk.
            "TMPDIR": "/var/tmp",  # noqa: S108
            "USER": self.name,
        }
        if self.module:
            found["FLASK_APP"] = self.module
        commands = [process.get("command") for process in (*self.workers, *self.cron)]
        if any("celery" in str(command) for command in commands):
            # Its scheduler would write the file into the app's folder, which is read-only.
            place = "/tmp/celerybeat-schedule"  # noqa: S108  # of the container
            names = ("CELERY_BEAT_SCHEDULE", "CELERY_WORKER_SCHEDULE_FILENAME")
            found |= dict.fromkeys(names, place)
        if self.has_dockerfile:
            del found["HEALTH_BUSY"]
            # The image does not know which proxies to trust, or the port.
            found |= {"FORWARDED_ALLOW_IPS": "*", "PORT": str(self.port)}
        found |= {f"{name}_FILE": f"/run/secrets/{name}" for name in secrets}
        return found | self.environment

    # -- its limits -------------------------------------------------------------------------------

    @property
    def pids(self) -> int:
        """How many processes and threads its container may have, with room for commands."""
        has_sockets = self.server == "gunicorn" and self.has_threads
        each = SOCKET_THREADS if has_sockets else 1
        return max(200, self.processes * (self.threads * each + 2) + 100)

    @property
    def connections(self) -> int:
        """
        How many connections its database allows.

        Each thread may hold one, each worker and job a few. The releases before and after a switch
        are connected at the same time. In steps, so that few changes restart the database.
        """
        each = self.threads if self.has_threads else POOLED_CONNECTIONS
        of_release = self.processes * each + 5 * len(self.workers)
        wanted = 2 * of_release + 2 * len(self.cron) + SPARE_CONNECTIONS
        return max(50, -(-wanted // 50) * 50)

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
            "brought": self.brought,
            "build_arguments": self.build_arguments,
            "build_reads": self.build_reads,
            "configuration": self.configuration,
            "connections": self.connections,
            "dir": self.dir,
            "gunicorn_app": self.gunicorn_app,
            "has_build": self.has_build,
            "has_dockerfile": self.has_dockerfile,
            "is_git": is_git(self.source),
            "kind": self.kind,
            "loader": self.loader,
            "mounts": self.mounts,
            "names": self.names.derived(),
            "owner": self.owner,
            "pids": self.pids,
            "secret_files": self.secret_files(given or {}),
            "secrets": secrets,
            "server_packages": self.server_packages,
            "shared_secrets": self.shared_secrets(given or {}),
            "site": site_of(asdict(self)) if self.domains else {},
            "source_needs": self.source_needs,
            "stop_seconds": self.stop_seconds,
            "variables": self.variables(secrets) if self.domains else {},
        }


def _converted(value: Any, option: Mapping[str, Any]) -> Any:
    """Convert a value to its option's type; unset values become empty, unset numbers None."""
    kind = option.get("type", "str")
    if kind == "int":
        return None if value is None else int(str(value).strip())
    if kind == "bool":
        return is_true(value, default=False)
    if kind in ("list", "dict"):
        return _plain(value or {"list": [], "dict": {}}[kind])
    return "" if value is None else str(value)


def _digests(files: Mapping[str, Any]) -> dict[str, str]:
    """Replace contents of files, which may be secret, by their digests."""
    return {
        str(path): str(content)
        if CONTENT.fullmatch(str(content))
        else f"sha256:{hashlib.sha256(str(content).encode()).hexdigest()}"
        for path, content in files.items()
    }


def _plain(value: Any) -> Any:
    """Copy a value into plain Python containers, because Ansible's cannot be copied."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
