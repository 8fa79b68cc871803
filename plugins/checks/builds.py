"""Rules for what the image of an app is built from: Python, dependencies, build command, keys."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.module_utils
from module_utils.python_versions import (
    DEBIAN,
    DEFAULT,
    UPSTREAM,
    VERSION,
    choose,
    version_of_image,
    wishes,
)
from module_utils.source_root import manifest, outside_paths

from checks.files import app_folder, is_folder, local, within
from checks.report import UNKNOWN, Finding, nearest, type_name

# Modules find these below Ansible's own.
FOLDER = str(Path(__file__).parents[1] / "module_utils")
if FOLDER not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(FOLDER)

from ansible.module_utils.source_tree import SourceError, source_files  # noqa: E402

if TYPE_CHECKING:
    from checks.site import Site

# Older versions than 3.6 exist, but are more likely a number of YAML that has lost its zero.
OLDEST = 6
NO_EFFECT = ("python", "requirements", "extras", "groups", "build")
PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Folders whose files visitors or the app need, and that tools generate.
GENERATED = {"static", "templates", "translations"}
# What an app does not need from such a folder.
UNNEEDED = re.compile(
    r"\..*|__pycache__|node_modules|.*\.(pyc|pyo|swp|orig|map|scss|po~)|Thumbs\.db|~.*"
)
SKIPPED = {"node_modules", "__pycache__", "venv", "env", "site-packages"}
LISTS = re.compile(r"(requirements|deps)([-_.]\w+)*\.(txt|in)|.*[-_]requirements\.txt")
PRIVATE_KEY = re.compile(r"\s*-----BEGIN [A-Z ]*PRIVATE KEY-----")
# The key of the source itself, in a dictionary of several.
OF_SOURCE = "source"
ADDRESS = re.compile(r"(\w+://)?([\w.-]+@)?[\w.-]+\.?[\w.-]*(:\d+)?[:/][\w./~+-]+")


def pythons(site: Site, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """
    List the versions of Python that there are images of.

    Parameters
    ----------
    site : Site
        The inventory.
    defaults : mapping
        The roles' defaults.

    Returns
    -------
    dict
        ``available``, and the ``default`` that apps get unless they ask for another one.
    """
    if site.get("images_source", defaults.get("images_source")) == "debian":
        return {"available": list(DEBIAN), "default": DEFAULT}
    upstream = {**defaults.get("images_upstream", {}), **_dict(site.get("images_upstream", {}))}
    name = str(site.images.get("python") or upstream.get("python") or "")
    return {"available": list(UPSTREAM), "default": version_of_image(name)}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def check_builds(site: Site, defaults: Mapping[str, Any]) -> list[Finding]:
    """Check the keys of all apps that their images are built from, and the secrets of builds."""
    found, there = [], pythons(site, defaults)
    for where, app in site.apps:
        entry = {key: value for key, value in app.items() if value is not UNKNOWN}
        if entry.get("image"):
            continue  # reported with the other keys of a source
        if entry.get("dockerfile"):
            found += _no_effect(entry, where) + _agent(entry, where, site)
        else:
            found += _build(entry, where, there)
    return found + _build_secrets(site)


def check_agent(places: Sequence[str], code: int) -> list[Finding]:
    """
    Check for the operator's SSH agent, which only exists while they are connected.

    Parameters
    ----------
    places : sequence of str
        The apps whose builds want it, such as ``apps.shop``.
    code : int
        Exit code of ``ssh-add -l`` on the server.

    Returns
    -------
    list of Finding
        One for each app if there is no agent, or no key in it.
    """
    if code == 0:
        return []
    wrong = "is set, but this connection forwards no SSH agent"
    fix = (
        "Set ansible_ssh_extra_args: -o ForwardAgent=yes for the host, start an agent if "
        "`ssh-add -l` here finds none, and try again after a minute, when the old connection is "
        "closed. Or set vault_deploy_keys instead"
    )
    if code == 1:
        wrong, fix = "is set, but your SSH agent has no keys", "Run ssh-add on this machine"
    return [Finding(f"{place}.ssh_agent", wrong, fix) for place in places]


def _agent(app: dict[str, Any], where: str, site: Site) -> list[Finding]:
    """Warn of a Dockerfile that mounts an SSH agent if the entry gives it none."""
    folder = app_folder(app)
    recipe = within(folder, str(app["dockerfile"])) if folder else None
    if not recipe or not recipe.is_file() or app.get("ssh_agent"):
        return []
    if not re.search(r"--mount=\S*type=ssh", recipe.read_text(errors="replace")):
        return []
    keys = _dict(site.get("vault_deploy_keys", {})).get(app.get("name"))
    if keys is UNKNOWN or set(_dict(keys)) - {OF_SOURCE}:
        return []
    wrong = "mounts an SSH agent (type=ssh), which is empty"
    fix = (
        f"Put the key of the repository that it reads into vault_deploy_keys.{app.get('name')}, "
        "under the repository's address, or set ssh_agent: true to use your own agent"
    )
    return [Finding(f"{where}.dockerfile", wrong, fix, app["dockerfile"], warning=True)]


def _no_effect(app: dict[str, Any], where: str) -> list[Finding]:
    fix = "Remove it, or do the same in the Dockerfile"
    return [
        Finding(f"{where}.{key}", "has no effect with dockerfile", fix, app[key], warning=True)
        for key in NO_EFFECT
        if app.get(key)
    ]


def _build(app: dict[str, Any], where: str, there: dict[str, Any]) -> list[Finding]:
    found = []
    folder = app_folder(app)
    given = app.get("python")
    text = (
        "" if given in (None, "") or isinstance(given, dict | list | bool) else str(given).strip()
    )
    if text and (not VERSION.fullmatch(text) or int(text[2:]) < OLDEST):
        fix = 'Write two numbers in quotes, such as "3.11"'
        if isinstance(given, float):
            fix += "; without quotes YAML takes 3.10 for the number 3.1"
        found.append(Finding(f"{where}.python", "is not a version of Python", fix, given))
    else:
        choice = choose(
            text, wishes(folder) if folder else [], there["available"], there["default"]
        )
        if choice.wrong:
            shown = {"value": given} if text else {}
            wrong = choice.wrong if text else f"is not set, and the source {choice.wrong}"
            spot = f"{where}.python"
            found.append(Finding(spot, wrong, choice.fix, warning=choice.mild, **shown))
    build = app.get("build")
    if isinstance(build, str) and re.search(r"[\x00-\x1f\x7f]", build.strip("\n")):
        wrong = "contains a line break or another control character"
        fix = "Write it on one line; && joins two commands"
        found.append(Finding(f"{where}.build", wrong, fix, build))
    for key in ("extras", "groups"):
        names = app.get(key)
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str) and not PACKAGE_NAME.fullmatch(name):
                wrong = f"is not the name of one of the project's {key}"
                found.append(Finding(f"{where}.{key}", wrong, "Write one name per entry", name))
    if folder:
        found += _requirements(app, where, folder) + _optional(app, where, folder)
        found += _outside(app, where, folder)
        found += _kept_home(app, where, folder)
    return found


def _requirements(app: dict[str, Any], where: str, folder: Path) -> list[Finding]:
    name = app.get("requirements")
    if not isinstance(name, str) or not name:
        return []
    file = within(folder, name)
    if file and file.is_file():
        return []
    known = lists_below(folder)
    same = (other for other in known if Path(other).stem.startswith(Path(name).stem))
    near = next(same, "") or nearest(name, known) or (known[0] if known else "")
    fix = f"Did you mean {near}?" if near else "Set it to a file, relative to the app's folder"
    return [Finding(f"{where}.requirements", "is not a file in source", fix, name)]


def lists_below(folder: Path) -> list[str]:
    """Find lists of dependencies under other names than requirements.txt."""
    found = []
    for place in (folder, folder / "requirements", folder / "reqs", folder / "deps"):
        for file in sorted(place.glob("*.txt")) if is_folder(place) else []:
            if place != folder or LISTS.fullmatch(file.name):
                found.append(file.relative_to(folder).as_posix())
    # The list of a production server is more likely the right one than that of the tests.
    return sorted(found, key=lambda n: ("prod" not in n, not re.search("main|base", n), n))


def _optional(app: dict[str, Any], where: str, folder: Path) -> list[Finding]:
    """Compare extras and groups with those that the project has."""
    if not app.get("extras") and not app.get("groups"):
        return []
    try:
        document = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        document = {}
    if (folder / "Pipfile.lock").is_file() or (not document and (folder / "setup.py").is_file()):
        return []
    if not document:
        fix = "Name a list with `requirements` instead, such as requirements/production.txt"
        keys = [key for key in ("extras", "groups") if app.get(key)]
        wrong = "needs a pyproject.toml, which the source does not have"
        return [Finding(f"{where}.{key}", wrong, fix, app[key]) for key in keys]
    project, tool = _dict(document.get("project")), _dict(document.get("tool"))
    poetry = _dict(tool.get("poetry"))
    known = {
        "extras": {**_dict(project.get("optional-dependencies")), **_dict(poetry.get("extras"))},
        "groups": {
            **_dict(document.get("dependency-groups")),
            **_dict(poetry.get("group")),
            **_dict(_dict(tool.get("pdm")).get("dev-dependencies")),
        },
    }
    if "optional-dependencies" in project.get("dynamic", []):
        del known["extras"]
    found = []
    for key, names in known.items():
        there = {_normal(name): name for name in names}
        given = app.get(key)
        for name in given if isinstance(given, list) else []:
            if isinstance(name, str) and _normal(name) not in there:
                has = ", ".join(sorted(names)) or "none"
                wrong = f"names {name}, which pyproject.toml does not have"
                fix = f"It has {has}"
                if key == "extras" and _normal(name) in {_normal(n) for n in known["groups"]}:
                    fix = f"It is a group: write `groups: [{name}]`"
                found.append(Finding(f"{where}.{key}", wrong, fix, given))
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _outside(app: dict[str, Any], where: str, folder: Path) -> list[Finding]:
    """Find dependencies that lie outside of the source."""
    top = local(str(app.get("source"))).resolve()
    name = str(app.get("requirements") or "requirements.txt")
    file = within(folder, name)
    lists = [name] if file and file.is_file() else []
    places = {
        path: Path(os.path.normpath(folder.resolve() / path))
        for path in outside_paths(folder, lists or ["pyproject.toml"])
    }
    found = [p for p, place in places.items() if not (place.is_relative_to(top) and place.exists())]
    # A member of a workspace whose root is above.
    uv = _dict(_dict(manifest(folder).get("tool")).get("uv"))
    is_member = any(_dict(value).get("workspace") for value in _dict(uv.get("sources")).values())
    if is_member and not lists and not (folder / "uv.lock").is_file() and "workspace" not in uv:
        wrong = "needs the workspace above it, which is not deployed with the folder"
        fix = "Set source to its root and remove `folder`: the members are installed as packages"
        return [Finding(f"{where}.{'folder' if app.get('folder') else 'source'}", wrong, fix)]
    if not found:
        return []
    wrong = f"needs {', '.join(found)}, which the source does not have"
    fix = "Set source to the folder that has both, and `folder` to the app's path in it"
    return [Finding(f"{where}.source", wrong, fix)]


def _kept_home(app: dict[str, Any], where: str, folder: Path) -> list[Finding]:
    """Warn of files that only this machine has, because git ignores them."""
    if app.get("build") or app.get("dockerfile"):
        return []
    volumes = app.get("volumes")
    mounted = [str(path) for path in volumes] if isinstance(volumes, list) else []
    found = [name for name in kept_home(folder) if not _is_mounted(name, mounted)]
    if not found:
        return []
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    wrong = f"keeps {shown} on this machine, because .gitignore names it, so the app lacks it"
    fix = (
        "Make it during the build with `build`, such as `npm ci && npm run build` or `pybabel "
        "compile -d translations`; or take it out of .gitignore; or, if visitors upload it, add "
        "it to `volumes`"
    )
    return [Finding(f"{where}.source", wrong, fix, warning=True)]


def _is_mounted(name: str, volumes: list[str]) -> bool:
    path = f"/app/{name.rstrip('/')}"
    return any(path == v.rstrip("/") or path.startswith(f"{v.rstrip('/')}/") for v in volumes)


def kept_home(root: Path) -> list[str]:
    """
    List what git ignores below folders of static files, templates and translations.

    Parameters
    ----------
    root : pathlib.Path
        The app's folder.

    Returns
    -------
    list of str
        Paths relative to it: folders of which nothing is deployed, with a slash at the end, and
        single files.
    """
    root = root.resolve()
    try:
        packed = {file.relative_to(root).as_posix() for file in source_files(root)}
    except SourceError:
        return []  # reported before the deploy
    above = {parent.as_posix() for name in packed for parent in Path(name).parents}
    found = []
    for place, folders, names in os.walk(root):
        at = Path(place).relative_to(root)
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and name not in SKIPPED and _is_plain(Path(place, name))
        ]
        if not GENERATED & set(at.parts):
            continue
        path = at.as_posix()
        if path not in above:
            if any(not UNNEEDED.fullmatch(name) for name in names) or folders:
                found.append(f"{path}/")
            folders.clear()
            continue
        found += [
            f"{path}/{name}"
            for name in sorted(names)
            if f"{path}/{name}" not in packed and not UNNEEDED.fullmatch(name)
        ]
    return found


def _is_plain(folder: Path) -> bool:
    # Not a virtual environment, nor another repository.
    return not (folder / "pyvenv.cfg").exists() and not (folder / ".git").exists()


# -- keys and secrets ------------------------------------------------------------------------------


def check_deploy_keys(keys: Any, where: str) -> list[Finding]:
    """Check the SSH keys of one app: one key, or one for each repository."""
    fix = "Write the whole private key as a block ('|')"
    if keys is UNKNOWN:
        return []
    if not isinstance(keys, dict):
        return _key(keys, where, fix)
    found = []
    for name, key in keys.items():
        spot = f"{where}.{name}"
        if name != OF_SOURCE and not ADDRESS.fullmatch(str(name)):
            wrong = "is not the address of a repository"
            how = (
                f"Write {OF_SOURCE} for the app's own, or HOST/PATH such as git.example.org/me/core"
            )
            found.append(Finding(spot, wrong, how))
        elif key is not UNKNOWN:
            found += _key(key, spot, fix)
    return found


def _key(key: Any, where: str, fix: str) -> list[Finding]:
    if not isinstance(key, str) or not PRIVATE_KEY.match(key):
        return [Finding(where, "is not a private key", fix)]
    if "PRIVATE KEY-----" not in key.strip()[30:]:
        return [Finding(where, "is an incomplete private key", fix)]
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f\x85\u2028\u2029]", key.replace("\r\n", "\n")):
        return [Finding(where, "contains a control character", fix)]
    if "ENCRYPTED" in key:
        return [Finding(where, "has a passphrase", "Make a key without one: ssh-keygen -N ''")]
    return []


def _build_secrets(site: Site) -> list[Finding]:
    given = site.values.get("vault_build_secrets")
    if given in (None, "") or given is UNKNOWN:
        return []
    fix = "Write one dictionary per app: NAME: value"
    if not isinstance(given, dict):
        return [Finding("vault_build_secrets", "must be a dictionary", fix)]
    found = []
    names = [str(app.get("name")) for app in site.entries]
    for name, secrets in given.items():
        where = f"vault_build_secrets.{name}"
        if str(name) not in names:
            near = nearest(str(name), names)
            how = f"Did you mean {near}?" if near else "Remove it, or add the app to apps"
            found.append(Finding(where, "does not belong to any app", how, warning=True))
        if secrets is UNKNOWN:
            continue
        if not isinstance(secrets, dict):
            found.append(Finding(where, "must be a dictionary", fix))
            continue
        for key, value in secrets.items():
            spot = f"{where}.{key}"
            if not SECRET_NAME.fullmatch(str(key)):
                how = "Use letters, digits and underscores"
                found.append(Finding(spot, "is not a valid name of a variable", how))
            elif value is not UNKNOWN and not isinstance(value, str):
                wrong = f"is not text but {type_name(value)}"
                found.append(Finding(spot, wrong, "Put the value in quotes"))
            elif value == "":
                found.append(Finding(spot, "is empty", "Write a value, or remove it"))
    return found
