"""Filters that say what an app's entry and the server's containers amount to."""

import ipaddress
import re
from pathlib import PurePosixPath
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

GIT = re.compile(r"(https?|ssh|git|file)://|[^/@\s]+@[^/:\s]+:")

# Workers and jobs come between those with requests and the database.
FIRST_TO_STOP = ("vhost", "relay", "web")
LAST_TO_STOP = ("db",)

# What downloads of a build may need: roles/app/vars says where each comes from.
BUILD_SECRETS = ("ca_bundle", "pip_index_url")

WRITES = (
    "The app writes to {path}, and its file system is read-only. Add that path or a folder above "
    "it to the `volumes` of its entry to keep what it writes; /tmp is writable and forgotten."
)
# What the log of a release that did not start usually means.
ADVICE = {
    r"Read-only file system: b?['\"]?(?P<path>[^'\"\s]+)": WRITES,
    # As shells and their commands say it.
    r"(?P<path>[^'\"\s]+)['\"]?: Read-only file system\s*(?:\n|\Z)": WRITES,
    r"attempt to write a readonly database": (
        "SQLite's file is where the app may not write: set `database: sqlite` and use "
        "DATABASE_URL, or add the file's folder to the `volumes` of the entry."
    ),
    r"unable to open database file": (
        "SQLite could not make its file: set `database: sqlite` and use DATABASE_URL, or add the "
        "file's folder to the `volumes` of the entry (Flask's instance folder is /app/instance)."
    ),
    r"No module named '(?P<name>pkg_resources|distutils)": (
        "{name} left Python: add setuptools<81 to the app's list of dependencies."
    ),
    r"No module named '(?P<name>[^']+)'": (
        "{name} is neither in the app's folder or its src/ nor in its list of dependencies: add it "
        "there, or mend `module`."
    ),
    r"error while loading shared libraries: \S+:|lib\S+\.so\S*: cannot open shared": (
        "A library is missing: name the Debian package that has it in `packages`."
    ),
    # A traceback would tell more than uWSGI's last line, which does not tell the two apart.
    (
        r"no python application found|unable to find \"application\"|unable to find .* callable"
        r"|'uwsgi_file__|\A(?!(?s:.*)Traceback)(?s:.*)callable not found or import error"
    ): (
        "`module` must name a file or package and the callable in it, such as my_app:app, or "
        "my_app:create_app() for a factory."
    ),
    r"KeyError: '(?P<name>[A-Z][A-Z0-9_]+)'": (
        "The app misses the variable {name}: add it to the `environment` of its entry, or, if it "
        "is a secret, to vault_app_secrets."
    ),
    (
        r"(?P<name>[A-Z][A-Z0-9_]+) not found\. Declare it"
        r"|Environment variable \"(?P<other>[A-Z][A-Z0-9_]+)\" not set"
    ): (
        "The app misses the variable {name}{other}: add it to the `environment` of its entry, or, "
        "if it is a secret, to vault_app_secrets."
    ),
    (
        r"Temporary failure in name resolution|Name or service not known"
        r"|No address associated with hostname|could not translate host name"
    ): (
        "The app looks up a name that its network does not have: it knows `db`, its own database, "
        "and has no way out of the server. Use DATABASE_URL as it is, and let no start wait for "
        "what is elsewhere."
    ),
    r"Can't load plugin: sqlalchemy.dialects:(?P<name>postgres)\b": (
        "This SQLAlchemy wants postgresql:// addresses, which DATABASE_URL is: look what the app "
        "makes of it."
    ),
    r"No module named 'psycopg2'": (
        "DATABASE_URL is one of Postgres, so the app needs psycopg2 in its list of dependencies."
    ),
    r"Permission denied: b?['\"]?(?P<path>[^'\"\s]+)": (
        "The app runs as a user of its own, who may not open {path}. If it writes there, add the "
        "path to `volumes`."
    ),
    # A log's folder is empty in the source, so git leaves it out.
    r"No such file or directory: b?['\"](?P<path>[^'\"\n]+\.log(\.\d+)?)['\"]": (
        "The folder of {path} is not in the app's image, as git keeps no empty folders: add it to "
        "the `volumes` of the entry, or log to stderr, which `docker logs` shows."
    ),
}


def is_git(source: str) -> bool:
    """Tell a git address from a folder."""
    return GIT.match(source) is not None


def source_needs(entry: dict[str, Any]) -> dict[str, list[str]]:
    """
    Name what an app's source must hold.

    Parameters
    ----------
    entry : dict
        One entry of ``apps``.

    Returns
    -------
    dict of str to list of str
        By the variable that asks for it, paths of which one is enough.
    """
    needs = {key: [entry[key]] for key in ("dockerfile", "static") if entry.get(key)}
    if "dockerfile" not in needs:
        needs["source"] = ["requirements.txt", "pyproject.toml", "setup.py"]
    return {f"apps.{entry['name']}.{key}": paths for key, paths in needs.items()}


def build_secrets(entry: dict[str, Any]) -> list[str]:
    """
    Say what the build of an app's image may read.

    Parameters
    ----------
    entry : dict
        One entry of ``apps``.

    Returns
    -------
    list of str
        Ids of BuildKit secrets: for a Dockerfile of the app's own, which may do with them what it
        likes, those that the entry names.
    """
    if entry.get("dockerfile"):
        return [name for name in BUILD_SECRETS if name in (entry.get("build_secrets") or [])]
    return list(BUILD_SECRETS)


def wsgi_loader(module: str) -> str:
    """
    Write the line of uwsgi.ini that loads an app.

    Parameters
    ----------
    module : str
        ``MODULE``, ``MODULE:CALLABLE``, or the call of a factory.

    Returns
    -------
    str
        uWSGI's own ``module``; but that knows neither arguments nor dotted callables, so for these
        Python that says the same.
    """
    path, _, target = module.partition(":")
    if re.fullmatch(r"\w*(\(\))?", target):
        return f"module = {module}"
    name = re.split(r"\W", target, maxsplit=1)[0]
    # In uWSGI's files a percent sign begins a placeholder.
    code = f"from {path} import {name}; application = {target}".replace("%", "%%")
    return f"eval = {code}"


def app_volumes(entry: dict[str, Any]) -> list[dict[str, str]]:
    """
    Name the volumes of an app.

    Parameters
    ----------
    entry : dict
        One entry of ``apps``.

    Returns
    -------
    list of dict
        ``name`` and ``path`` of each. The dot keeps the volumes of the app ``a`` apart from those
        of ``a-b``, because no app has one in its name.

    Raises
    ------
    AnsibleFilterError
        If a path is not absolute, or two would share a volume.
    """
    paths = [str(PurePosixPath(path)) for path in entry.get("volumes") or []]
    if entry.get("database") == "sqlite":
        paths.append("/data")
    found: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", path) or ".." in path.split("/"):
            raise AnsibleFilterError(
                f"{entry['name']}: the volume {path!r} must be an absolute path of letters, "
                "digits, _ . and -"
            )
        name = f"{entry['name']}.{path.strip('/').replace('/', '-')}"
        if name in found:
            raise AnsibleFilterError(
                f"{entry['name']}: the volumes {found[name]} and {path} would share the name {name}"
            )
        found[name] = path
    return [{"name": name, "path": path} for name, path in found.items()]


def containers_of(containers: list[dict[str, Any]], app: str, but: str = "") -> list[str]:
    """
    Pick the containers of one app's releases, host names and database.

    Parameters
    ----------
    containers : list of dict
        What the engine lists, with ``Names`` and ``Labels``.
    app : str
        The app's name.
    but : str, optional
        The release to leave out; then the host names and the database are left out, too.

    Returns
    -------
    list of str
        Names in the order in which they are to stop: who takes requests before who answers them.
    """
    found = []
    for container in containers:
        labels = container.get("Labels") or {}
        project = labels.get("com.docker.compose.project")
        of_release = labels.get("flask-vps.app") == app and labels.get("flask-vps.release") != but
        # A scheduled job ends by itself, also when its release is no longer the one in service.
        if but and labels.get("com.docker.compose.oneoff") == "True":
            continue
        if of_release or (not but and project in (f"{app}-vhost", f"{app}-db")):
            service = labels.get("com.docker.compose.service", "")
            found.append((_turn(service), container["Names"][0].lstrip("/")))
    return [name for _, name in sorted(found)]


def _turn(service: str) -> int:
    # Behind the kind may stand which one it is: vhost-0123456789ab, worker-mail.
    kind = service.partition("-")[0]
    if kind in FIRST_TO_STOP:
        return FIRST_TO_STOP.index(kind)
    return len(FIRST_TO_STOP) + (kind in LAST_TO_STOP)


def app_kind(entry: dict[str, Any]) -> str:
    """
    Tell what nginx speaks at the socket of an app's releases.

    Parameters
    ----------
    entry : dict
        One entry of ``apps``.

    Returns
    -------
    str
        ``http`` through the relay of an image of the app's own, else ``uwsgi``.
    """
    return "http" if entry.get("dockerfile") else "uwsgi"


def only_app(apps: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """
    Narrow the apps to the one that the operator named.

    Parameters
    ----------
    apps : list of dict
        The entries of the inventory.
    name : str
        What ``-e app=`` says; empty for all.

    Returns
    -------
    list of dict
        The entries meant.

    Raises
    ------
    AnsibleFilterError
        If there is no such app.
    """
    found = [entry for entry in apps if not name or entry["name"] == name]
    if not found:
        known = ", ".join(entry["name"] for entry in apps)
        raise AnsibleFilterError(f"app={name}: there is no such app. This inventory has: {known}")
    return found


def rollback_target(found: dict[str, Any], app: str, wanted: str = "") -> dict[str, Any]:
    """
    Choose the release to return to.

    Parameters
    ----------
    found : dict
        What the module ``release_info`` returned.
    app : str
        The app's name, for messages.
    wanted : str, optional
        What ``-e release=`` says; by default the one that was in service before.

    Returns
    -------
    dict
        The release's record; or, under ``error``, why there is none.
    """
    live, records = found["live"], {record["id"]: record for record in found["releases"]}
    fit = [i for i, record in records.items() if record.get("in_service") and i != live]
    choice = f"Choose one of: {', '.join(fit)}" if fit else "No other release was ever in service"
    name = str(wanted or found["previous"])
    error = ""
    if not live:
        error = "has no release in service, so there is none to leave"
    elif not name:
        error = "has no earlier release that was well when it was left"
    elif name == live:
        error = f"is at release {name} already"
    elif name not in records:
        error = f"has no release {name} on this server"
    elif name not in fit:
        error = f"had a release {name}, but it never was healthy"
    elif app_kind(records[name]["entry"]) != app_kind(records.get(live, {}).get("entry", {})):
        error = f"was served another way by {name}, which only a deploy of its source can change"
    return {"error": f"{app} {error}. {choice}."} if error else records[name]


def moved_release(text: str, release: str, uid: int | str, folder: str) -> str:
    """
    Bring a release's compose file up to date that is from before apps had numbers of their own.

    Parameters
    ----------
    text : str
        Text of the file.
    release : str
        The release's id, after which its socket was named.
    uid : int or str
        The number that the app runs as.
    folder : str
        The folder on the server that the release listens in.

    Returns
    -------
    str
        Text of the new file. One that is up to date already stays what it was in meaning.
    """
    # Plain strings: those of Ansible carry marks that YAML cannot write.
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
    """
    Write the releases of an app as lines for a person.

    Parameters
    ----------
    found : dict
        What the module ``release_info`` returned.

    Returns
    -------
    list of str
        A heading and a line for each release, the youngest first.
    """
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
    """
    Read addresses and networks that an operator has listed.

    Parameters
    ----------
    text : str or list of str
        Separated by commas or white space, such as ``192.0.2.7, 2001:db8::/32``.

    Returns
    -------
    list of str
        Each in the form that nginx reads.

    Raises
    ------
    AnsibleFilterError
        If one is neither.
    """
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
    """
    Say what to do about the errors in a log.

    Parameters
    ----------
    log : str
        Output of the app.

    Returns
    -------
    str
        Lines for the operator; empty if nothing is known.
    """
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
            "app_kind": app_kind,
            "app_volumes": app_volumes,
            "build_secrets": build_secrets,
            "containers_of": containers_of,
            "is_git": is_git,
            "moved_release": moved_release,
            "networks": networks,
            "only_app": only_app,
            "release_advice": release_advice,
            "release_table": release_table,
            "rollback_target": rollback_target,
            "source_needs": source_needs,
            "wsgi_loader": wsgi_loader,
        }
