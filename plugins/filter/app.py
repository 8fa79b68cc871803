"""Filters for the model of an app, and for its releases, containers and logs."""

import ipaddress
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from checks.outside_advice import outside_advice
from checks.writing import write_advice
from module_utils.app import INHERITED, App
from module_utils.names import Names
from module_utils.procfile import ProcfileError, complete
from module_utils.services import is_true

# Workers and jobs stop after the containers that take requests, and before the database.
FIRST_TO_STOP = ("vhost", "relay", "web")
LAST_TO_STOP = ("db",)
OF_APP = "flask-vps.services-of"

# What the kernel, servers and this project say when a process was killed for want of memory.
KILLED = re.compile(r"ran out of memory|exit code 137|killed by signal 9|Perhaps out of memory")
# How long a list of advice is.
ADVICE_LINES = 4
MIGRATES = (
    "Several processes of the app migrate or create the same database while they load. Let one do "
    "it: move that out of the import into a command, named by `init` (each release) or `setup` "
    "(once), or set `processes: 1` with more threads."
)
# Usual causes of errors in the log of a release that did not start.
ADVICE = {
    r"attempt to write a readonly database": (
        "SQLite's file is in a folder that the app cannot write to: set `database: sqlite` and use "
        "DATABASE_URL, or add the file's folder to the `volumes` of the entry."
    ),
    r"unable to open database file": (
        "SQLite could not create its file: set `database: sqlite` and use DATABASE_URL, or make "
        "the file's folder a volume. For Flask's instance folder: `volumes: [{volumes}]`."
    ),
    r"No module named '(?P<name>pkg_resources|distutils)": (
        "{name} is no longer part of Python: add setuptools<81 to the app's list of dependencies."
    ),
    r"No module named '(?!psycopg2')(?P<name>[^']+)'": (
        "{name} is neither in the app's folder or its src/ nor in its list of dependencies: add it "
        "there, or correct `module`."
    ),
    r"error while loading shared libraries: \S+:|lib\S+\.so\S*: cannot open shared": (
        "A library is missing: add its Debian package to `packages`."
    ),
    # Only without a traceback: uWSGI's last line does not tell the two errors apart.
    (
        r"no python application found|unable to find \"application\"|unable to find .* callable"
        r"|`module` names \S+, which"
        r"|'uwsgi_file__|\A(?!(?s:.*)Traceback)(?s:.*)callable not found or import error"
    ): (
        "`module` must name a file or package and the callable in it, such as my_app:app, or "
        "my_app:create_app() for a factory."
    ),
    r"cannot import name '(?P<name>\w+)' from '(?P<other>[\w.]+)' \(/opt/venv/": (
        "The dependencies do not fit each other or this Python: {other} has no {name}. Update what "
        "imports it, pin an older version of what has {other} in the list of dependencies, or, for "
        'versions from before 2024, set `python: "3.11"`.'
    ),
    r"KeyError: '(?!(?:RQ_)?REDIS_URL|VALKEY_URL)(?P<name>[A-Z][A-Z0-9_]+)'": (
        "The app lacks the variable {name}: add it to the `environment` of its entry, or, if it "
        "is a secret, to vault_app_secrets."
    ),
    (
        r"(?P<name>[A-Z][A-Z0-9_]+) not found\. Declare it"
        r"|Environment variable \"(?P<other>[A-Z][A-Z0-9_]+)\" not set"
    ): (
        "The app lacks the variable {name}{other}: add it to the `environment` of its entry, or, "
        "if it is a secret, to vault_app_secrets."
    ),
    r"Can't load plugin: sqlalchemy.dialects:(?P<name>postgres)\b": (
        "This SQLAlchemy needs postgresql:// URLs, and DATABASE_URL is one: check how the app "
        "changes it."
    ),
    r"PackageNotFoundError: No package metadata was found for (?P<name>[\w.-]+)": (
        "The app asks for the metadata of {name}. If that is the app itself, it could not be "
        "installed as a package: its pyproject.toml needs a [build-system] that can build it. "
        "Otherwise add it to the list of dependencies."
    ),
    r"No module named 'psycopg2'": (
        "DATABASE_URL is for Postgres, so the app needs psycopg2 in its list of dependencies. If "
        "it has psycopg instead, set `database_url_scheme: postgresql+psycopg`; if it uses SQLite, "
        "`database: sqlite`."
    ),
    r"The asyncio extension requires an async driver": (
        "Name the driver in the address: `database_url_scheme: postgresql+asyncpg`, or "
        "sqlite+aiosqlite."
    ),
    r"no pq wrapper available|libpq library not found": (
        "psycopg needs a library: add libpq5 to `packages`, or psycopg[binary] to the list of "
        "dependencies."
    ),
    (
        r"permission denied to create extension \"(?P<name>[^\"]+)\""
        r"|extension \"(?P<other>[^\"]+)\" is not available"
    ): "Name the extension in the entry, which creates it: `extensions: [{name}{other}]`.",
    r"too many clients already|remaining connection slots are reserved": (
        "The app opens more connections than its processes and threads explain: lower the pool's "
        "size (pool_size and max_overflow of SQLAlchemy), which counts for each process."
    ),
    r"can't start new thread": (
        "The app starts more threads than its container may have: lower `threads`, or let the app "
        "start fewer of its own."
    ),
    (
        r"OperationalError\)?:? (table \S+ already exists|duplicate column|database is locked)"
        r"|UNIQUE constraint failed: alembic_version"
        r"|unique constraint \"pg_(type_typname_nsp|class_relname_nsp)_index\""
    ): MIGRATES,
    r"no such table: (?P<name>\S+)|relation \"(?P<other>[^\"]+)\" does not exist": (
        "The table {name}{other} does not exist: name the command that creates the tables in "
        "`init` (each release, such as flask db upgrade) or in `setup` (once)."
    ),
    r"Unable to load configuration file \([^)]*\): '(?:/app/)?(?P<path>[^']+)'": (
        "The app reads a configuration file that its source lacks: bring it with "
        '`files: {{{path}: "{{{{ vault_NAME }}}}"}}`, with the content in the vault.'
    ),
    r"Permission denied: b?['\"]?(?P<path>[^'\"\s]+)": (
        "The app runs as its own user, which may not open {path}. If it writes there, add the "
        "path to `volumes`."
    ),
}


def app_completed(entry: dict[str, Any], inherited: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give every key of an entry a value."""
    return App.from_entry(entry, inherited).entry()


def app_derived(entry: dict[str, Any], secrets: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the values derived from an app's entry."""
    return App.from_entry(entry).derived(secrets)


def app_configuration(entry: dict[str, Any], secrets: dict[str, str] | None = None) -> str:
    """Show an app as it will be used."""
    shown = {key: value for key, value in entry.items() if key != "given"}
    shown["derived"] = app_derived(entry, secrets)
    # Ansible sorts the keys of a dictionary that it prints.
    return yaml.safe_dump(json.loads(json.dumps(shown)), sort_keys=False, allow_unicode=True)


def app_secret_values(entry: dict[str, Any], secrets: dict[str, str]) -> dict[str, str]:
    """Join an app's secrets with what follows from them, such as ``DATABASE_URL``."""
    return App.from_entry(entry).secrets(secrets)


def app_secret_files(
    entry: dict[str, Any], secrets: dict[str, str], releases: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """List the secrets with the files to write them to, also in the forms of other releases."""
    app = App.from_entry(entry)
    found = [
        {"key": key, "file": app.secret_files(secrets)[key], "value": value}
        for key, value in app.secrets(secrets).items()
    ]
    for record in releases:
        # A rollback must find the address with today's password in the form that it expects.
        other = App.from_entry({"name": app.name, **record.get("entry", {})})
        if other.database == "postgres" and "DATABASE_URL" in app.shared_secrets(secrets):
            form = {
                "key": "DATABASE_URL",
                "file": other.secret_files(secrets)["DATABASE_URL"],
                "value": other.secrets(secrets)["DATABASE_URL"],
            }
            found += [form] if form not in found else []
    return found


def app_release_keys(entry: dict[str, Any]) -> dict[str, Any]:
    """Pick the part of an app's entry that a release is named after."""
    return App.from_entry(entry).release_keys


def with_procfile(apps: list[dict[str, Any]], name: str, text: str) -> list[dict[str, Any]]:
    """Complete the entry of one app from the Procfile in its source."""
    found = []
    for entry in apps:
        if entry["name"] == name:
            try:
                given = complete(entry["given"], text)
            except ProcfileError as error:
                raise AnsibleFilterError(
                    f"apps.{name}.module: is missing, and the Procfile {error}. Set module to the "
                    "WSGI callable, such as my_app:app"
                    if text
                    else f"apps.{name}.module: is missing, and the source has no Procfile. Set it "
                    "to the WSGI callable, such as my_app:app or my_app:create_app()"
                ) from None
            # The content of files is not needed again: given has their digests.
            inherited = {INHERITED[key]: entry[key] for key in INHERITED}
            entry = App.from_entry(given, inherited).entry()
        found.append(entry)
    return found


def exec_path(image: dict[str, Any]) -> str:
    """Put the folder of the commands that get the app's secrets before an image's PATH."""
    variables = dict(line.split("=", 1) for line in image["Config"].get("Env") or [] if "=" in line)
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"/opt/flask-vps/exec:{variables.get('PATH') or usual}"


def containers_of(containers: list[dict[str, Any]], app: str, but: str = "") -> list[str]:
    """Pick the containers of one app's releases, host names, services and database."""
    found, names = [], Names(app)
    projects = (names.domains_project, names.database_project)
    for container in containers:
        labels = container.get("Labels") or {}
        project = labels.get("com.docker.compose.project")
        of_release = labels.get("flask-vps.app") == app and labels.get("flask-vps.release") != but
        # A scheduled job ends by itself, even if its release is no longer live.
        if but and labels.get("com.docker.compose.oneoff") == "True":
            continue
        of_app = project in projects or labels.get(OF_APP) == app
        if of_release or (not but and of_app):
            service = "db" if OF_APP in labels else labels.get("com.docker.compose.service", "")
            found.append((_turn(service), container["Names"][0].lstrip("/")))
    return [name for _, name in sorted(found)]


def _turn(service: str) -> int:
    # A name may follow the kind: vhost-0123456789ab, worker-mail.
    kind = service.partition("-")[0]
    if kind in FIRST_TO_STOP:
        return FIRST_TO_STOP.index(kind)
    return len(FIRST_TO_STOP) + (kind in LAST_TO_STOP)


def rollback_target(found: dict[str, Any], app: str, wanted: str = "") -> dict[str, Any]:
    """Choose the release to return to."""
    live, records = found["live"], {record["id"]: record for record in found["releases"]}
    fit = [i for i, record in records.items() if record.get("in_service") and i != live]
    choice = f"Choose one of: {', '.join(fit)}" if fit else "No other release was ever in service"
    name = str(wanted or found["previous"])
    error = ""
    if not live:
        error = "has no live release to roll back from"
    elif not name:
        error = "has no earlier release that was healthy when it was replaced"
    elif name == live:
        error = f"already has the live release {name}"
    elif name not in records:
        error = f"has no release {name} on this server"
    elif name not in fit:
        error = f"has a release {name}, but it never became healthy"
    elif "entry" not in records[name]:
        error = f"has a release {name}, but its release.json was lost, which says how to start it"
    elif _kind(records[name]) != _kind(records.get(live, {})):
        error = f"used another protocol in release {name}, so only a deploy can return to it"
    return {"error": f"{app} {error}. {choice}."} if error else records[name]


def _kind(record: dict[str, Any]) -> str:
    return App.from_entry(record.get("entry", {})).kind


def moved_release(text: str, release: str, uid: int | str, folder: str) -> str:
    """Update the compose file of a release from before apps had their own user IDs."""
    # Plain strings, because YAML cannot write Ansible's tagged ones.
    project = yaml.safe_load(str(text))
    for service in project["services"].values():
        service["user"] = f"{uid}:{uid}"
        service["volumes"] = [
            _moved_mount(mount, str(folder)) for mount in service.get("volumes", [])
        ]
        if isinstance(service.get("entrypoint"), list):
            service["entrypoint"] = [
                word.replace(f"/sockets/{release}.sock", "/sockets/app.sock")
                for word in service["entrypoint"]
            ]
        if isinstance(service.get("environment"), dict):
            service["environment"].setdefault("HOME", "/tmp")  # noqa: S108  # of the container
    return yaml.safe_dump(project, sort_keys=False)


def _moved_mount(mount: str | dict[str, Any], folder: str) -> str | dict[str, Any]:
    if isinstance(mount, str) and mount.endswith(":/sockets"):
        return {
            "type": "bind",
            "source": folder,
            "target": "/sockets",
            "bind": {"create_host_path": False},
        }
    return mount


def release_table(found: dict[str, Any]) -> list[str]:
    """Write the releases of an app as lines for a person."""
    rows = [("RELEASE", "STATE", "CREATED (UTC)", "LAST IN SERVICE", "COMMIT", "BY")]
    for record in found["releases"]:
        served = (record.get("in_service") or [""])[-1]
        rows.append(
            (
                record["id"],
                record["state"],
                _minute(record["created"]),
                _minute(served),
                record.get("commit") or "-",
                record.get("by") or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines]


def _minute(time: str) -> str:
    return time[:16].replace("T", " ") if time else "-"


def networks(text: str | list[str]) -> list[str]:
    """Read addresses and networks that an operator has listed."""
    words = re.split(r"[,\s]+", text) if isinstance(text, str) else text
    found = []
    for word in filter(None, words):
        try:
            found.append(str(ipaddress.ip_network(word, strict=False)))
        except ValueError:
            raise AnsibleFilterError(
                f"allow={word}: is neither an address nor a network. Write it like 192.0.2.7 or "
                "2001:db8::/32."
            ) from None
    return found


def release_advice(
    log: str, entry: dict[str, Any] | None = None, instance: str = "/app/instance"
) -> str:
    """
    Say what to do about the errors in a log.

    Parameters
    ----------
    log : str
        The reason of the failure, and what the app has printed.
    entry : dict, optional
        The app's completed entry.
    instance : str, optional
        Flask's instance folder of the app.

    Returns
    -------
    str
        One sentence or more on each known error; empty if none is known.
    """
    found = []
    if KILLED.search(log):
        memory = (entry or {}).get("memory_mb")
        enough = f"{memory} MB were not enough" if memory else "its memory was not enough"
        found.append(f"Killed: {enough}. Raise memory_mb, or lower processes.")
    found += write_advice(log, entry)
    found += outside_advice(log, is_true((entry or {}).get("internet"), default=True))
    volumes = [*map(str, (entry or {}).get("volumes") or []), instance]
    values = {"volumes": ", ".join(dict.fromkeys(volumes))}
    for pattern, text in ADVICE.items():
        match = re.search(pattern, log)
        if match:
            found.append(text.format(**values, **match.groupdict(default="")))
    return "\n".join(list(dict.fromkeys(found))[:ADVICE_LINES])


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "app_completed": app_completed,
            "app_configuration": app_configuration,
            "app_derived": app_derived,
            "app_release_keys": app_release_keys,
            "app_secret_files": app_secret_files,
            "app_secret_values": app_secret_values,
            "containers_of": containers_of,
            "exec_path": exec_path,
            "moved_release": moved_release,
            "networks": networks,
            "release_advice": release_advice,
            "release_table": release_table,
            "rollback_target": rollback_target,
            "with_procfile": with_procfile,
        }
