"""Rules for the services beside the apps."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from module_utils.app import is_present, volume_name, volume_path
from module_utils.names import DATABASE, DOMAINS, Names
from module_utils.services import Service, kind_of, names_of_kinds, service_plans, services_of

from checks.edge import edge_variables
from checks.own_image import IMAGE, USER
from checks.report import UNKNOWN, Finding, nearest, shown_unless_secret
from checks.spec import type_error

NAME = re.compile(r"(?=.{1,31}\Z)[a-z][a-z0-9]*(-+[a-z0-9]+)*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MEMORY_MB = (16, 1048576)
# Names in the app's network, and of what belongs to an app.
TAKEN_NAMES = {"backend", "db", "internet", "localhost", "init", "relay", "vhost", "web"}
TAKEN_PATHS = {"/", "/dev", "/etc", "/proc", "/run", "/run/secrets", "/sys", "/tmp"}  # noqa: S108
TAKEN_TREES = ("/dev/", "/opt/flask-vps", "/proc/", "/run/secrets/", "/sys/")
# What a known service decides itself, what only a known one has, and what a shared one keeps.
OF_IMAGES = (
    "command",
    "user",
    "environment",
    "secrets",
    "volumes",
    "writable",
    "read_only",
    "health",
)
OF_KINDS = ("persist", "urls")
OF_SHARED = ("name", "from", "urls")


def check_services(
    apps: list[tuple[str, dict[str, Any]]], options: Mapping[str, Any], vault: Any
) -> list[Finding]:
    """
    Check the services of all apps.

    Parameters
    ----------
    apps : list of tuple
        Place and entry of each present app.
    options : mapping
        Options of an element of ``services``, from the argument spec of the role app.
    vault : Any
        ``vault_app_secrets``.

    Returns
    -------
    list of Finding
        Problems and warnings.
    """
    found = []
    secrets = vault if isinstance(vault, Mapping) else None
    for where, app in apps:
        listed = app.get("services")
        places = list(enumerate(listed)) if isinstance(listed, list) else []
        for number, given in places:
            found += _element(given, f"{where}.services[{number}]", options)
        found += _twice(app, f"{where}.services")
        found += _volumes(app, f"{where}.services")
        for number, given in places:
            found += _shared(app, given, f"{where}.services[{number}]", apps)
            found += _secrets(app, given, f"{where}.services[{number}]", apps, secrets)
    return found + _projects(apps)


def _element(given: Any, where: str, options: Mapping[str, Any]) -> list[Finding]:
    """Check one element of ``services`` alone."""
    if given is UNKNOWN:
        return []
    if isinstance(given, str):
        return _unknown(given, where) if not kind_of(given) else []
    if not isinstance(given, dict):
        fix = "Write a name such as valkey, or lines of the form `key: value`"
        return [Finding(where, "must be a name or a dictionary", fix, given)]
    found = []
    for key, value in given.items():
        spot = f"{where}.{key}"
        secret = key == "environment"
        if key not in options:
            near = nearest(str(key), options)
            fix = f"Did you mean {near}?" if near else "The keys are in roles/app/README.md"
            found.append(
                Finding(spot, "is an unknown key", fix, shown_unless_secret(str(key), value))
            )
        elif key == "name":
            continue
        elif error := type_error(options[key], value, secret=secret):
            found.append(Finding(spot, *error, *([] if secret else [value])))
    name, image = given.get("name"), given.get("image")
    if name in (None, "", UNKNOWN):
        wrong = [] if name is UNKNOWN else [Finding(f"{where}.name", "is missing", "Write a name")]
        return [*found, *wrong]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        fix = "Use a-z first and then a-z, 0-9 and inner -, at most 31 characters"
        return [*found, Finding(f"{where}.name", "is not a valid name of a service", fix, name)]
    reserved = name in TAKEN_NAMES or name.startswith(("worker-", "release-"))
    if reserved or name.endswith((DATABASE, DOMAINS)):
        fix = f"Choose another one, such as {name}-service"
        found.append(Finding(f"{where}.name", "is reserved for the app itself", fix, name))
    if given.get("from"):
        found += _without_effect(given, where, set(options) - set(OF_SHARED), "a shared service")
    elif kind_of(name):
        found += _without_effect(
            given, where, OF_IMAGES, f"{kind_of(name)}, which is a known service"
        )
        if image:
            wrong = f"replaces the known service {kind_of(name)}"
            fix = f"Set images_registry.{kind_of(name)}, or choose another name for the service"
            found.append(Finding(f"{where}.image", wrong, fix, image))
    elif not image:
        found += _unknown(name, f"{where}.name")
    else:
        found += _without_effect(given, where, OF_KINDS, "a service by image")
    return found + _by_image(given, where)


def _unknown(name: str, where: str) -> list[Finding]:
    names = names_of_kinds()
    near = nearest(name, names)
    hint = f"Did you mean {near}? " if near else ""
    fix = f"{hint}Choose {', '.join(names)}, or write `name: {name}` and `image:` for any other"
    return [Finding(where, "is not a known service", fix, name)]


def _without_effect(given: dict[str, Any], where: str, keys: Any, what: str) -> list[Finding]:
    return [
        Finding(f"{where}.{key}", f"has no effect on {what}", "Remove it")
        for key in given
        if key in keys and key != "image"
    ]


def _by_image(given: dict[str, Any], where: str) -> list[Finding]:
    """Check the values of a dictionary that have rules of their own."""
    found = []
    image = given.get("image")
    if isinstance(image, str) and image:
        if not IMAGE.fullmatch(image):
            fix = "Write NAME:TAG, if need be with a registry before it and a digest after it"
            found.append(Finding(f"{where}.image", "is not a valid image name", fix, image))
        elif ":" not in image.rpartition("/")[2]:
            wrong = "has no tag, so another server may get another version"
            found.append(Finding(f"{where}.image", wrong, "Write NAME:TAG", image, warning=True))
    memory = given.get("memory_mb")
    if (
        re.fullmatch(r"\s*-?\d+\s*", str(memory))
        and not MEMORY_MB[0] <= int(memory) <= MEMORY_MB[1]
    ):
        fix = f"Choose {MEMORY_MB[0]} to {MEMORY_MB[1]}"
        found.append(Finding(f"{where}.memory_mb", "is out of range", fix, memory))
    user = given.get("user")
    if user not in (None, "", UNKNOWN) and not USER.fullmatch(str(user)):
        fix = "Write numbers in quotes, such as '1000:1000': `docker run IMAGE id` shows them"
        found.append(Finding(f"{where}.user", "is not a user ID", fix, user))
    command = given.get("command")
    if isinstance(command, list) and any(isinstance(word, dict | list) for word in command):
        found.append(
            Finding(f"{where}.command", "is not a list of words", "Quote each word", command)
        )
    elif isinstance(command, str):
        try:
            shlex.split(command)
        except ValueError:
            found.append(
                Finding(f"{where}.command", "has a quote that does not end", "Close it", command)
            )
    health = given.get("health")
    if isinstance(health, str) and re.search(r"[\x00-\x1f\x7f]", health.strip("\n")):
        wrong = "contains a line break or another control character"
        found.append(Finding(f"{where}.health", wrong, "Write it on one line", health))
    for key in ("volumes", "writable"):
        found += _paths(given.get(key), f"{where}.{key}")
    environment = given.get("environment")
    for name, value in environment.items() if isinstance(environment, dict) else ():
        found += _variable(name, value, f"{where}.environment.{name}", given)
    urls = given.get("urls")
    for name in urls if isinstance(urls, list) else ():
        if isinstance(name, str) and not VARIABLE.fullmatch(name):
            fix = "Use letters, digits and underscores, such as CELERY_BROKER_URL"
            found.append(Finding(f"{where}.urls", "is not a valid variable name", fix, name))
    return found


def _paths(paths: Any, where: str) -> list[Finding]:
    found = []
    for path in paths if isinstance(paths, list) else []:
        if not isinstance(path, str):
            continue
        plain = "/" if path.strip("/") == "" else volume_path(path)
        if plain is None:
            wrong = "must be an absolute path of letters, digits, _ . and -"
            fix = "Write a path in the container that starts with /, such as /data"
            found.append(Finding(where, wrong, fix, path))
        elif plain in TAKEN_PATHS or plain.startswith(TAKEN_TREES):
            fix = "Choose another folder, such as /data"
            found.append(Finding(where, "is reserved in the container", fix, path))
    return found


def _variable(name: Any, value: Any, where: str, given: dict[str, Any]) -> list[Finding]:
    shown = shown_unless_secret(where, value)
    if value is UNKNOWN:
        return []
    if not isinstance(name, str) or not VARIABLE.fullmatch(name):
        fix = "Use letters, digits and underscores; put names such as on or 1 in quotes"
        return [Finding(where, "is not a valid variable name", fix)]
    if value is None:
        return [Finding(where, "is empty", "Write a value, '' for none, or remove it")]
    if isinstance(value, dict | list):
        return [Finding(where, "must be a single value", "Write text, in quotes", shown)]
    if edge_variables([name]):
        wrong = "is read by docker-gen or acme-companion and would become a site"
        return [Finding(where, wrong, "Remove it", shown)]
    if name in (given.get("secrets") or []):
        return [Finding(where, "is also in `secrets`", "Keep it there and remove it here")]
    return []


def _twice(app: dict[str, Any], where: str) -> list[Finding]:
    """Find services of one app with the same name; redis is valkey's second one."""
    found, owners = [], {}
    for service in services_of(app):
        for host in service.hosts:
            before = owners.setdefault(host, service)
            if before is not service:
                fix = "Remove one of them, or give it another name"
                found.append(Finding(where, "names one service twice", fix, host))
                break
    return found


def _volumes(app: dict[str, Any], where: str) -> list[Finding]:
    volumes = app.get("volumes")
    paths = [p for p in volumes if isinstance(p, str)] if isinstance(volumes, list) else []
    found, taken = [], {volume_name(volume_path(path) or path): path for path in paths}
    for service in services_of(app):
        for path in service.paths:
            name = f"{service.name}.{volume_name(path)}"
            if name in taken:
                wrong = f"would share a volume with {service.name}'s {path}"
                place = where.replace(".services", ".volumes")
                found.append(Finding(place, wrong, "Give one of them another name", taken[name]))
            taken[name] = path
    return found


def _shared(
    app: dict[str, Any], given: Any, where: str, apps: list[tuple[str, dict[str, Any]]]
) -> list[Finding]:
    """Check a service that another app has."""
    owner = given.get("from") if isinstance(given, dict) else None
    if not owner or not isinstance(owner, str):
        return []
    spot, entries = f"{where}.from", {str(entry.get("name")): entry for _, entry in apps}
    if owner == app.get("name"):
        return [Finding(spot, "is the app itself", "Remove it: the service is its own", owner)]
    if owner not in entries:
        near = nearest(owner, entries)
        fix = f"Did you mean {near}?" if near else "Name an app that is present"
        return [Finding(spot, "names an app that is not present in this inventory", fix, owner)]
    name = Service.of(given).name
    if any(s.name == name and not s.owner for s in services_of(entries[owner])):
        return []
    fix = f"Add {name} to the services of {owner}, or remove `from`"
    return [Finding(spot, f"names an app without a service {name} of its own", fix, owner)]


def _secrets(
    app: dict[str, Any],
    given: Any,
    where: str,
    apps: list[tuple[str, dict[str, Any]]],
    vault: Mapping[str, Any] | None,
) -> list[Finding]:
    """Find secrets that a service needs and the vault lacks."""
    if vault is None or not isinstance(given, dict):
        return []
    alone = {"name": app.get("name"), "services": [given]}
    found = []
    for plan in service_plans(alone, [entry for _, entry in apps]):
        theirs = vault.get(plan["app"])
        # The secrets of the app's own known services are checked with the others.
        names = [] if plan["kind"] and plan["app"] == app.get("name") else plan["secrets"]
        for name in names if isinstance(theirs, Mapping | None) else []:
            if name not in (theirs or {}):
                wrong = f"needs {name}, which vault_app_secrets.{plan['app']} lacks"
                fix = "Add it there; `make vault` adds passwords of known services"
                found.append(Finding(where, wrong, fix))
    return found


def _projects(apps: list[tuple[str, dict[str, Any]]]) -> list[Finding]:
    """Find services whose containers would have the names of others: `a-b` of x, and b of `x-a`."""
    found: list[Finding] = []
    owners: dict[str, str] = {}
    for where, app in apps:
        name = str(app.get("name"))
        names = Names(name)
        for project in (names.database_project, names.domains_project):
            owners.setdefault(project, where)
        for service in services_of(app):
            project = names.service(service.name)
            before = owners.setdefault(project, where)
            if not service.owner and before != where:
                wrong = f"has a service {service.name}, whose containers would be {before}'s"
                found.append(Finding(f"{where}.services", wrong, "Give it another name"))
    return found


def own_names(app: Mapping[str, Any]) -> set[str]:
    """List the host names in an app's network."""
    names = {host for service in services_of(app) for host in service.hosts}
    return names | {"db"} if is_present(app) else names
