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
from module_utils.app import App

# Workers and jobs stop after the containers that take requests, and before the database.
FIRST_TO_STOP = ("vhost", "relay", "web")
LAST_TO_STOP = ("db",)

WRITES = (
    "The app writes to {path}, but its file system is read-only. Add that path or a folder above "
    "it to the `volumes` of its entry to keep the files; /tmp is writable, but is not kept."
)
# Usual causes of errors in the log of a release that did not start.
ADVICE = {
    r"Read-only file system: b?['\"]?(?P<path>[^'\"\s]+)": WRITES,
    # The messages of shells and their commands.
    r"(?P<path>[^'\"\s]+)['\"]?: Read-only file system\s*(?:\n|\Z)": WRITES,
    r"attempt to write a readonly database": (
        "SQLite's file is in a folder that the app cannot write to: set `database: sqlite` and use "
        "DATABASE_URL, or add the file's folder to the `volumes` of the entry."
    ),
    r"unable to open database file": (
        "SQLite could not create its file: set `database: sqlite` and use DATABASE_URL, or add the "
        "file's folder to the `volumes` of the entry (Flask's instance folder is /app/instance)."
    ),
    r"No module named '(?P<name>pkg_resources|distutils)": (
        "{name} is no longer part of Python: add setuptools<81 to the app's list of dependencies."
    ),
    r"No module named '(?P<name>[^']+)'": (
        "{name} is neither in the app's folder or its src/ nor in its list of dependencies: add it "
        "there, or correct `module`."
    ),
    r"error while loading shared libraries: \S+:|lib\S+\.so\S*: cannot open shared": (
        "A library is missing: add its Debian package to `packages`."
    ),
    # Only without a traceback: uWSGI's last line does not tell the two errors apart.
    (
        r"no python application found|unable to find \"application\"|unable to find .* callable"
        r"|'uwsgi_file__|\A(?!(?s:.*)Traceback)(?s:.*)callable not found or import error"
    ): (
        "`module` must name a file or package and the callable in it, such as my_app:app, or "
        "my_app:create_app() for a factory."
    ),
    r"KeyError: '(?P<name>[A-Z][A-Z0-9_]+)'": (
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
    (
        r"Temporary failure in name resolution|Name or service not known"
        r"|No address associated with hostname|could not translate host name"
    ): (
        "The app looks up a name that its network does not have: it knows `db`, its own database, "
        "and cannot reach other servers. Use DATABASE_URL as it is, and let the start not depend "
        "on other servers."
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
        "DATABASE_URL is for Postgres, so the app needs psycopg2 in its list of dependencies."
    ),
    r"Permission denied: b?['\"]?(?P<path>[^'\"\s]+)": (
        "The app runs as its own user, which may not open {path}. If it writes there, add the "
        "path to `volumes`."
    ),
    # Git leaves out the folder of a log, because it is empty in the source.
    r"No such file or directory: b?['\"](?P<path>[^'\"\n]+\.log(\.\d+)?)['\"]": (
        "The folder of {path} is not in the app's image, as git keeps no empty folders: add it to "
        "the `volumes` of the entry, or log to stderr, which `docker logs` shows."
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


def app_release_keys(entry: dict[str, Any]) -> dict[str, Any]:
    """Pick the part of an app's entry that a release is named after."""
    return App.from_entry(entry).release_keys


def containers_of(containers: list[dict[str, Any]], app: str, but: str = "") -> list[str]:
    """Pick the containers of one app's releases, host names and database."""
    found = []
    for container in containers:
        labels = container.get("Labels") or {}
        project = labels.get("com.docker.compose.project")
        of_release = labels.get("flask-vps.app") == app and labels.get("flask-vps.release") != but
        # A scheduled job ends by itself, even if its release is no longer live.
        if but and labels.get("com.docker.compose.oneoff") == "True":
            continue
        if of_release or (not but and project in (f"{app}-vhost", f"{app}-db")):
            service = labels.get("com.docker.compose.service", "")
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


def release_advice(log: str) -> str:
    """Say what to do about the errors in a log."""
    found = []
    for pattern, text in ADVICE.items():
        match = re.search(pattern, log)
        if match:
            found.append(text.format(**match.groupdict(default="")))
    return "\n".join(dict.fromkeys(found))


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "app_completed": app_completed,
            "app_configuration": app_configuration,
            "app_derived": app_derived,
            "app_release_keys": app_release_keys,
            "app_secret_values": app_secret_values,
            "containers_of": containers_of,
            "moved_release": moved_release,
            "networks": networks,
            "release_advice": release_advice,
            "release_table": release_table,
            "rollback_target": rollback_target,
        }
