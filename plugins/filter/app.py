"""Filters that say what an app's entry and the server's containers amount to."""

import re
from pathlib import PurePosixPath
from typing import Any

from ansible.errors import AnsibleFilterError

GIT = re.compile(r"(https?|ssh|git|file)://|[^/@\s]+@[^/:\s]+:")

STOP_ORDER = ("vhost", "relay", "web", "db")

# What the log of a release that did not start usually means.
ADVICE = {
    r"Read-only file system: '?\"?(?P<path>/[^'\"\s]*)": (
        "The app writes to {path}, and its file system is read-only. Add that path or a folder "
        "above it to the `volumes` of its entry to keep what it writes; /tmp is writable and "
        "forgotten."
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
    (
        r"no python application found|unable to find \"application\"|unable to find .* callable"
        r"|'uwsgi_file__"
    ): (
        "`module` must name a file or package and the callable in it, such as my_app:app, or "
        "my_app:create_app() for a factory."
    ),
    r"KeyError: '(?P<name>[A-Z][A-Z0-9_]+)'": (
        "The app misses the variable {name}: add it to the `environment` of its entry, or, if it "
        "is a secret, to vault_app_secrets."
    ),
    r"Can't load plugin: sqlalchemy.dialects:(?P<name>postgres)\b": (
        "This SQLAlchemy wants postgresql:// addresses, which DATABASE_URL is: look what the app "
        "makes of it."
    ),
    r"No module named 'psycopg2'": (
        "DATABASE_URL is one of Postgres, so the app needs psycopg2 in its list of dependencies."
    ),
    r"Permission denied: '?\"?(?P<path>/[^'\"\s]*)": (
        "The app runs as user 10001, who may not open {path}. If it writes there, add the path to "
        "`volumes`."
    ),
}


def is_git(source: str) -> bool:
    """Tell a git address from a folder."""
    return GIT.match(source) is not None


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
        if of_release or (not but and project in (f"{app}-vhost", f"{app}-db")):
            service = labels.get("com.docker.compose.service", "")
            turn = STOP_ORDER.index(service) if service in STOP_ORDER else len(STOP_ORDER)
            found.append((turn, container["Names"][0].lstrip("/")))
    return [name for _, name in sorted(found)]


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
            found.append(text.format(**match.groupdict()))
    return "\n".join(found)


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "app_volumes": app_volumes,
            "containers_of": containers_of,
            "is_git": is_git,
            "release_advice": release_advice,
        }
