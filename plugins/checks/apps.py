"""Rules for the entries of ``apps``: each key alone, and all entries together."""

import ast
import os
import re
from pathlib import Path
from typing import Any

from module_utils.app import (
    INSTALLABLE,
    NAME,
    RANGES,
    has_own_image,
    is_git,
    is_present,
    setting,
    volume_name,
    volume_path,
)
from module_utils.names import DATABASE, DOMAINS
from module_utils.procfile import ProcfileError, complete, unread

from checks.app_files import check_files
from checks.builds import lists_below
from checks.databases import check_database
from checks.domains import check_domains
from checks.edge import edge_variables
from checks.files import app_folder, is_file, is_folder, local, within
from checks.first_run import check_first_run
from checks.own_image import check_own_image
from checks.report import UNKNOWN, Finding, nearest, shown_unless_secret
from checks.reserved import is_taken
from checks.serve import check_serve
from checks.site_settings import check_settings
from checks.spec import type_error

MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_][\w.]*(\([^\n\r]*\))?)?")
FACTORY = re.compile(r".*:(\w+\.)*(create|make)_app")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PROCESS = re.compile(r"(?=.{1,31}\Z)[a-z0-9]+(-+[a-z0-9]+)*")
SCHEDULE = re.compile(r"[\w*/,-]+([ \t]+[\w*/,-]+){4}", re.ASCII)
REQUIRED = {
    "source": "Set it to the app's folder on this machine, or to a git URL",
    "domains": "List the host names that point to the server",
    "module": "Set it to the WSGI callable, such as my_app:app or my_app:create_app()",
}
# Keys whose values may be secrets, if only by mistake.
UNSHOWN = ("environment", "basic_auth", "files")
# Names of this project's images, and of what every Postgres has.
TAKEN_NAMES = {
    *("edge", "base", "python", "nginx", "docker-gen", "nginx-proxy", "acme-companion", "pebble"),
    *("postgres", "template0", "template1", "public", "none"),
}


def place(app: Any, number: int) -> str:
    """Name an entry as ``apps.NAME``, or by its position when it has no usable name."""
    name = app.get("name") if isinstance(app, dict) else None
    return f"apps.{name}" if isinstance(name, str) and NAME.fullmatch(name) else f"apps[{number}]"


def present(apps: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Pair each entry that is present with its place."""
    return [
        (place(app, number), app)
        for number, app in enumerate(apps)
        if isinstance(app, dict) and is_present(app)
    ]


def check_apps(apps: Any, options: dict[str, Any], public_ca: bool, tls: str) -> list[Finding]:
    """
    Check all entries of ``apps``, except secrets and certificates.

    Parameters
    ----------
    apps : Any
        The variable, with ``UNKNOWN`` for what could not be computed.
    options : dict
        Options of an entry, from the argument spec of the role app.
    public_ca : bool
        Whether certificates come from a public authority.
    tls : str
        The ``tls`` of entries that do not set it.

    Returns
    -------
    list of Finding
        Problems and warnings.
    """
    if apps is UNKNOWN:
        return []
    if not isinstance(apps, list) or not apps:
        wrong = "must be a list with at least one app"
        return [Finding("apps", wrong, "Write one entry per app, see docs/apps.md", apps)]
    found = []
    for number, app in enumerate(apps):
        where = place(app, number)
        if app is UNKNOWN:
            continue
        if not isinstance(app, dict):
            fix = "Write lines of the form `key: value` below it"
            found.append(Finding(where, "must be a dictionary", fix, app))
            continue
        found += check_name(app.get("name"), where)
        found += _keys(app, where, options)
        for key in ("workers", "cron"):
            found += _processes(app.get(key), f"{where}.{key}", options[key]["options"])
        if not is_present(app):
            continue
        found += _required(app, where)
        asks = public_ca and app.get("tls", tls) == "acme"
        found += check_domains(app, f"{where}.domains", asks)
        found += check_settings(app, where, tls, asks)
        found += check_entry(app, where)
    names = [app.get("name") for app in apps if isinstance(app, dict)]
    for name in sorted({n for n in names if isinstance(n, str) and names.count(n) > 1}):
        wrong = f"is the name of {names.count(name)} entries"
        found.append(Finding("apps", wrong, "Give each app a different name", name))
    return found


def check_name(name: Any, where: str) -> list[Finding]:
    """Check the name of an app: projects, networks, folders and roles are named after it."""
    place = f"{where}.name"
    if name is UNKNOWN:
        return []
    if name is None or name == "":
        return [Finding(place, "is missing", "Write a name, such as my_shop")]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        fix = "Use a-z first and then a-z, 0-9, with single _ or - between, at most 31 characters"
        return [Finding(place, "is not a valid app name", fix, name)]
    if name in TAKEN_NAMES or name.startswith("pg_") or name.endswith((DATABASE, DOMAINS)):
        wrong = "is reserved for the server or its databases"
        return [Finding(place, wrong, f"Choose another one, such as {name}-site", name)]
    return []


def _keys(app: dict[str, Any], where: str, options: dict[str, Any]) -> list[Finding]:
    found = []
    for key, value in app.items():
        if key not in options:
            near = nearest(str(key), options)
            fix = f"Did you mean {near}?" if near else "The keys are in roles/app/README.md"
            shown = shown_unless_secret(str(key), value)
            found.append(Finding(f"{where}.{key}", "is an unknown key", fix, shown))
        elif key in ("name", "command", "schedule", *REQUIRED) and value is None:
            continue  # reported as missing
        elif key not in ("name", *UNSHOWN) and (error := type_error(options[key], value)):
            found.append(Finding(f"{where}.{key}", *error, value))
        elif key in UNSHOWN and (error := type_error(options[key], value, secret=True)):
            found.append(Finding(f"{where}.{key}", *error))
    return found


def _processes(entries: Any, where: str, options: dict[str, Any]) -> list[Finding]:
    """Check the workers or the scheduled jobs of an app."""
    found, names = [], []
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        spot = f"{where}[{number}]"
        if not isinstance(entry, dict):
            continue  # reported for the list
        found += _keys(entry, spot, options)
        found += [
            Finding(f"{spot}.{key}", "is missing", f"Write lines for {', '.join(options)}")
            for key in options
            if entry.get(key) in (None, "")
        ]
        name = entry.get("name")
        if name not in (None, "") and not PROCESS.fullmatch(str(name)):
            fix = "Use a-z, 0-9 and inner -, at most 31 characters"
            found.append(Finding(f"{spot}.name", "is not a valid name", fix, name))
        elif name in names:
            found.append(Finding(f"{spot}.name", "is used twice", "Choose another one", name))
        names.append(name)
        schedule = entry.get("schedule")
        if isinstance(schedule, str) and schedule and not SCHEDULE.fullmatch(schedule):
            fix = "Write five fields as in crontab(5), such as */10 * * * *"
            found.append(Finding(f"{spot}.schedule", "is not a valid schedule", fix, schedule))
        command = entry.get("command")
        if isinstance(command, str) and (error := _init(command)):
            found.append(Finding(f"{spot}.command", *error, command))
    return found


def _required(app: dict[str, Any], where: str) -> list[Finding]:
    wanted = dict(REQUIRED)
    if has_own_image(app):
        del wanted["module"]
        key = "image" if app.get("image") else "dockerfile"
        wanted["port"] = f"Set it to the port that the container listens on; {key} needs it"
    elif not app.get("module"):
        text = procfile_of(app)
        if is_git(str(app.get("source") or "")):
            # It may have a Procfile, which is read once it is fetched.
            del wanted["module"]
        elif text is not None:
            try:
                complete(app, text)
            except ProcfileError as error:
                wrong = f"is missing, and the Procfile {error}"
                return [Finding(f"{where}.module", wrong, wanted["module"])]
            del wanted["module"]
    if app.get("image"):
        del wanted["source"]
    return [
        Finding(f"{where}.{key}", "is missing", fix)
        for key, fix in wanted.items()
        if app.get(key) in (None, "")
    ]


def procfile_of(app: dict[str, Any]) -> str | None:
    """Read the Procfile of an app whose source is a folder of this machine; None without one."""
    folder = app_folder(app)
    file = within(folder, "Procfile") if folder else None
    if file is None or not is_file(file):
        return None
    return file.read_text(encoding="utf-8-sig", errors="replace")


def filled(app: dict[str, Any]) -> dict[str, Any]:
    """Complete an entry from its Procfile, if its source is on this machine."""
    text = procfile_of(app)
    try:
        return app if text is None else complete(app, text)
    except ProcfileError:
        return app  # reported with the missing module


def _procfile(app: dict[str, Any], where: str) -> list[Finding]:
    """Tell which lines of a Procfile are not used, because the entry names a module."""
    text = procfile_of(app) if app.get("module") and not has_own_image(app) else None
    lines = [name for name in unread(app, text or "") if name != "web"]
    if not lines:
        return []
    wrong = f"is set, so the Procfile is not read, and its lines {', '.join(lines)} are not used"
    fix = "Remove module to use the Procfile, or set init and workers (workers: [] for none)"
    return [Finding(f"{where}.module", wrong, fix, app["module"], warning=True)]


def check_entry(app: dict[str, Any], where: str) -> list[Finding]:
    """Check the keys of one entry that have rules of their own."""
    app = {key: value for key, value in app.items() if value is not UNKNOWN}
    found = [
        Finding(f"{where}.{key}", "is out of range", f"Choose {low} to {high}", app[key])
        for key, (low, high) in RANGES.items()
        if key in app and _int(app[key]) is not None and not low <= _int(app[key]) <= high
    ]
    checks = {
        "module": _module,
        "health": _health,
        "setup": _init,
        "init": _init,
        "version": _one_line,
        "requirements": _one_line,
        "folder": _one_line,
    }
    for key, check in checks.items():
        value = app.get(key)
        # A number counts as text, as it does for Ansible.
        text = "" if value is None or isinstance(value, dict | list) else str(value)
        if text and (error := check(text)):
            found.append(Finding(f"{where}.{key}", *error, value))
    found += _lists(app, where) + _environment(app, where)
    found += _procfile(app, where)
    for rule in (check_serve, check_own_image, check_first_run, check_files, check_database):
        found += rule(filled(app), where)
    source = app.get("source")
    if source not in (None, "") and not isinstance(source, dict | list) and not app.get("image"):
        found += check_source(app, where)
    return found


def _int(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(str(value).strip())
    except ValueError:
        return None


def _module(value: str) -> tuple[str, str] | None:
    path = value.partition("(")[0]
    if re.search(r"\.py\b", path) or "/" in path:
        name = re.sub(r"\.py\b", "", value).replace("/", ".")
        return "is a file, not a module", f"Write it as Python imports it, such as {name}"
    if not MODULE.fullmatch(value) or not _is_python(value.partition(":")[2]):
        fix = "Write MODULE:CALLABLE, such as my_app:app or my_app:create_app()"
        return "is not a WSGI callable", fix
    if "$(" in value:
        return "contains $(, which uWSGI expands", "Let the app read its environment instead"
    if FACTORY.fullmatch(value):
        return "is an app factory, not a WSGI callable", f"Call it: {value}()"
    return None


def _is_python(target: str) -> bool:
    try:
        ast.parse(target or "application", mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True


def _health(value: str) -> tuple[str, str] | None:
    if not re.fullmatch(r"/[!-~]*", value) or re.search(r"[\"'\\#]", value):
        return "is not a valid path", "Write a path that starts with /, such as /healthz"
    return None


def _init(value: str) -> tuple[str, str] | None:
    error = _one_line(value)
    return (error[0], "Write it on one line; && joins two commands") if error else None


def _one_line(value: str) -> tuple[str, str] | None:
    if re.search(r"[\x00-\x1f\x7f]", value.strip("\n")):
        return "contains a line break or another control character", "Write it on one line"
    return None


def _lists(app: dict[str, Any], where: str) -> list[Finding]:
    found, owners = [], {}
    volumes = app.get("volumes")
    for path in volumes if isinstance(volumes, list) else []:
        if not isinstance(path, str):
            continue
        plain = "/" if path.strip("/") == "" else volume_path(path)
        if plain is None:
            wrong = "must be an absolute path of letters, digits, _ . and -"
            # A relative path in an app's code begins in /app.
            below = volume_path(f"/app/{path}") if not path.startswith("/") else None
            fix = f"Write a path in the container that starts with /, such as {below or '/data'}"
            found.append(Finding(f"{where}.volumes", wrong, fix, path))
        elif is_taken(plain):
            fix = "Choose another folder, such as /data"
            found.append(Finding(f"{where}.volumes", "is reserved in the container", fix, path))
        elif owners.setdefault(volume_name(plain), plain) != plain:
            wrong = f"would share a volume with {owners[volume_name(plain)]}"
            found.append(Finding(f"{where}.volumes", wrong, "Give one of them another name", path))
    for key in ("packages", "build_packages"):
        packages = app.get(key)
        for name in packages if isinstance(packages, list) else []:
            if isinstance(name, str) and not PACKAGE.fullmatch(name):
                fix = "Write one name of a Debian package per entry"
                found.append(Finding(f"{where}.{key}", "is not a valid package name", fix, name))
    return found


def _environment(app: dict[str, Any], where: str) -> list[Finding]:
    environment = app.get("environment")
    found = []
    for name, value in environment.items() if isinstance(environment, dict) else ():
        spot = f"{where}.environment.{name}"
        shown = shown_unless_secret(spot, value)
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            fix = "Use letters, digits and underscores; put names such as on or 1 in quotes"
            found.append(Finding(spot, "is not a valid variable name", fix))
        elif value is None:
            found.append(Finding(spot, "is empty", "Write a value, '' for none, or remove it"))
        elif isinstance(value, dict | list):
            found.append(Finding(spot, "must be a single value", "Write text, in quotes", shown))
        elif "\0" in str(value):
            found.append(Finding(spot, "contains a NUL character", "Remove the character", shown))
        elif edge_variables([name]):
            wrong = "is read by docker-gen or acme-companion and would override the entry"
            found.append(Finding(spot, wrong, "Remove it, or give it another name", shown))
        elif name == "DATABASE_URL" and setting(app, "database") != "none":
            fix = "Remove it, or set database: none for a database of your own"
            if setting(app, "database") == "external":
                fix = "Move it to the app's part of vault_app_secrets"
            found.append(Finding(spot, "is already set because of `database`", fix))
    return found


def check_source(app: dict[str, Any], where: str) -> list[Finding]:
    """Check that ``source`` leads to an app, as far as this machine can tell."""
    source, spot = str(app["source"]), f"{where}.source"
    if is_git(source):
        return []
    if "://" in source:
        fix = "Use https://, ssh://, file:// or git@HOST:PATH, or a folder on this machine"
        return [Finding(spot, "is not a supported git URL", fix, source)]
    root = local(source)
    here = "Start the path with '{{ inventory_dir }}/' or '/'"
    if not root.is_absolute():
        wrong = "is a relative path, whose meaning depends on the playbook"
        return [Finding(spot, wrong, here, source)]
    if not is_folder(root):
        wrong = "is not a folder on this machine" if is_file(root) else "does not exist here"
        return [Finding(spot, wrong, here, source)]
    found = []
    if app.get("version"):
        wrong = "has no effect, because source is a folder"
        fix = "Remove it, or set source to a git URL"
        found.append(Finding(f"{where}.version", wrong, fix, app["version"], warning=True))
    folder = within(root, str(app.get("folder") or ""))
    if not folder or not is_folder(folder):
        fix = "Set it to the app's folder, relative to source"
        wrong = _astray(root, str(app["folder"])) or "is not a folder in source"
        return [*found, Finding(f"{where}.folder", wrong, fix, app["folder"])]
    if app.get("dockerfile"):
        recipe = within(folder, str(app["dockerfile"]))
        if not recipe or not is_file(recipe):
            fix = "Set it to a file, relative to the app's folder"
            wrong = _astray(folder, str(app["dockerfile"])) or "is not a file in source"
            found.append(Finding(f"{where}.dockerfile", wrong, fix, app["dockerfile"]))
    elif not app.get("requirements") and not any((folder / n).is_file() for n in INSTALLABLE):
        wrong = "lists no dependencies"
        fix = "Put a requirements.txt, or a pyproject.toml with its lock file, into the folder"
        if (folder / "Pipfile").is_file():
            fix = "Run `pipenv lock`, and keep the Pipfile.lock in git"
        elif others := lists_below(folder):
            fix = f"Set `requirements` to the right list, such as {others[0]}"
        found.append(Finding(spot, wrong, fix, source))
    if app.get("static"):
        static = within(folder, str(app["static"]))
        fix = "Set it to a folder below the app's folder, relative to that"
        # The app's folder itself would publish its code.
        made = app.get("build") and static and not static.exists()
        if not made and (not static or not is_folder(static) or static == folder.resolve()):
            wrong = _astray(folder, str(app["static"])) or "is not a folder in source"
            found.append(Finding(f"{where}.static", wrong, fix, app["static"]))
    return found


def _astray(root: Path, name: str) -> str:
    """Report a link that leads out of a folder; empty if the path is wrong for another reason."""
    plain = not Path(name).is_absolute() and ".." not in Path(name).parts
    # The target of a link may exist on the server only.
    is_link = plain and os.path.lexists(root / name) and not within(root, name)
    return "leads out of the folder through a link" if is_link else ""
