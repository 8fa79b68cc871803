"""Find an app's list of dependencies, and the files that belong to it."""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# In order of preference.
LISTS = (
    *("requirements.txt", "pdm.lock", "uv.lock", "poetry.lock", "Pipfile.lock"),
    *("pyproject.toml", "setup.py"),
)
LOCKS = ("pdm.lock", "uv.lock", "poetry.lock")
# Files that describe a package: tools read workspaces and path dependencies from them.
MANIFESTS = ("pyproject.toml", "setup.py", "setup.cfg", "uv.toml", "pdm.toml", "poetry.toml")

OPTION = re.compile(
    r"(-r|-c|-e|-f|--requirement|--constraint|--editable|--find-links)(?:\s*=\s*|\s+|(?=[\w./]))(.+)"
)
EDITABLE = ("-e", "--editable")
GIT = re.compile(r"\bgit\+\w+:|(?<![\w.-])git@[\w.-]+:")
# A name and its version, extras and markers, as opposed to a path or an address.
WORD = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass
class Wanted:
    """
    What the entry of the app says about its dependencies.

    Parameters
    ----------
    requirements : str
        The list to install; empty for the first of `LISTS`.
    extras, groups : list of str
        Optional dependencies and dependency groups to install, too.
    """

    requirements: str = ""
    extras: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    @classmethod
    def of_environment(cls) -> Wanted:
        """Read the build arguments."""
        return cls(
            os.environ.get("REQUIREMENTS", ""),
            os.environ.get("EXTRAS", "").split(),
            os.environ.get("DEPENDENCY_GROUPS", "").split(),
        )

    def choose(self, source: Path) -> str:
        """Name the list of a source, relative to it; exit if there is none."""
        if self.requirements:
            name = os.path.normpath(self.requirements)
            if name.startswith("..") or not (source / name).is_file():
                raise SystemExit(f"requirements: the app has no file {self.requirements}.")
            return name
        for name in LISTS:
            if not (source / name).is_file():
                continue
            if name == "pyproject.toml" and not {"project", "build-system"} & set(toml(source)):
                continue
            # Only the tools of the other lists know extras and groups.
            others = ("pyproject.toml", "Pipfile.lock", *LOCKS)
            if name == "requirements.txt" and (self.extras or self.groups):
                if any((source / other).is_file() for other in others):
                    continue
                raise SystemExit(
                    "extras and groups need a pyproject.toml or a lock, not only requirements.txt."
                )
            return name
        raise SystemExit(f"The app names no dependencies: it needs one of {', '.join(LISTS)}.")


def is_requirements(name: str) -> bool:
    """Tell whether a list is in the format of pip."""
    return name not in LISTS or name == "requirements.txt"


def lines_of(file: Path) -> list[str]:
    """Read the logical lines of a list in pip's format, without comments."""
    raw = file.read_bytes()
    # PowerShell's `pip freeze > requirements.txt` writes UTF-16.
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    text = re.sub(r"\\\r?\n", " ", text)
    return [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]


def closure(source: Path, name: str = "requirements.txt") -> list[Path]:
    """List a list in pip's format and all files that it includes, directly or indirectly."""
    found = [source / name]
    for file in found:
        for line in lines_of(file):
            option = OPTION.fullmatch(line)
            if not option or not includes(option[1]) or "://" in option[2]:
                continue
            included = Path(os.path.normpath(file.parent / option[2].strip()))
            if not included.is_relative_to(source) or not included.is_file():
                raise SystemExit(
                    f"{file.name} includes {option[2]}, which is not in the app's folder."
                )
            if included not in found:
                found.append(included)
    return found


def includes(option: str) -> bool:
    """Tell whether an option of pip names a file to include."""
    return option in ("-r", "-c", "--requirement", "--constraint")


def local_target(source: Path, line: str) -> str | None:
    """Return the path that a line of a list installs from the source itself, or None."""
    option = OPTION.fullmatch(line)
    if option and includes(option[1]):
        return None
    if option and option[1] in ("-f", "--find-links"):
        return None if "://" in option[2] and not option[2].startswith("file:") else option[2]
    target = (option[2] if option else line).strip()
    if target.startswith("-"):
        return None
    if "@ file:" in target or target.startswith("file:"):
        return target
    path = re.split(r"\s*;|\[|\s", target, maxsplit=1)[0]
    if path.startswith(("./", "../", "/")) or path in (".", ".."):
        return target
    # Like pip, take a name with a slash for a path if there is one, and any name after -e.
    if ("/" in path or option or path.endswith((".whl", ".tar.gz", ".zip"))) and (
        source / path
    ).exists():
        return target
    return None


def not_editable(source: Path, line: str) -> str:
    """Make a line install a copy: an editable install would point to a path of the build."""
    option = OPTION.fullmatch(line)
    if not option or option[1] not in EDITABLE or local_target(source, line) is None:
        return line
    target = option[2].strip()
    # Without a slash pip would look for the name in the index.
    return target if target.startswith((".", "/", "file:")) else f"./{target}"


def is_built(source: Path, wanted: Wanted) -> bool:
    """Tell whether the dependencies are known only from more than lists and manifests."""
    name = wanted.choose(source)
    if is_requirements(name):
        files = closure(source, name)
        return any(local_target(source, line) for file in files for line in lines_of(file))
    if name == "pyproject.toml":
        document = toml(source)
        project = document.get("project", {})
        lines = [
            project.get("dependencies", []),
            *project.get("optional-dependencies", {}).values(),
        ]
        texts = [line for part in lines for line in part]
        return (
            "name" not in project
            or "dependencies" in project.get("dynamic", [])
            or "optional-dependencies" in project.get("dynamic", [])
            or bool(document.get("tool", {}).get("uv", {}).get("sources"))
            or any("file:" in text for text in texts)
        )
    return name == "setup.py"


def collect(source: Path, dest: Path, wanted: Wanted) -> None:
    """Copy the files that name dependencies, or the whole source if only a build can tell them."""
    name = wanted.choose(source)
    if is_built(source, wanted):
        shutil.copytree(source, dest, dirs_exist_ok=True, symlinks=True)
        return
    files = closure(source, name) if is_requirements(name) else [source / name]
    if name in LOCKS:
        if not (source / "pyproject.toml").is_file():
            raise SystemExit(f"{name} needs a pyproject.toml beside it.")
        files += _manifests(source)
    if looser := looser_list(source, name):
        files.append(source / looser)
    for file in files:
        target = dest / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def looser_list(source: Path, name: str) -> str:
    """Name the list that allows newer versions than a lock; empty if there is none."""
    if name not in (*LOCKS, "Pipfile.lock"):
        return ""
    if {"project", "poetry"} & {*toml(source), *toml(source).get("tool", {})}:
        return "pyproject.toml"
    return "setup.py" if (source / "setup.py").is_file() else ""


def _manifests(source: Path) -> list[Path]:
    """List the manifests of a workspace."""
    found = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(set(folders) - {"node_modules", "tests", "static"})
        found += [Path(folder, name) for name in MANIFESTS if name in names]
    return found


def toml(folder: Path, name: str = "pyproject.toml") -> dict:
    """Read a TOML file; empty if there is none."""
    try:
        return tomllib.loads((folder / name).read_text())
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise SystemExit(f"{name} is not valid TOML: {error}") from None


def normal(name: str) -> str:
    """Write the name of a package, extra or group as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(document: dict, wanted: Wanted) -> list[str]:
    """List the dependencies of a pyproject.toml with the extras and groups that are wanted."""
    project = document.get("project", {})
    extras = {normal(n): lines for n, lines in project.get("optional-dependencies", {}).items()}
    groups = {normal(n): lines for n, lines in document.get("dependency-groups", {}).items()}
    own = normal(project.get("name", ""))
    found = list(project.get("dependencies", []))
    pending, seen = [normal(name) for name in wanted.extras], set()
    while pending:
        name = pending.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for line in _of(extras, name, "extra"):
            match = re.match(r"([\w.-]+)\s*\[([^\]]*)\]", line)
            if match and normal(match[1]) == own:
                # An extra may consist of others.
                pending += [normal(part.strip()) for part in match[2].split(",")]
            else:
                found.append(line)
    pending, seen = [normal(name) for name in wanted.groups], set()
    while pending:
        name = pending.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for item in _of(groups, name, "group"):
            if isinstance(item, dict):
                pending.append(normal(item.get("include-group", "")))
            else:
                found.append(item)
    return found


def _of(known: dict, name: str, kind: str) -> Iterable:
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise SystemExit(f"{kind}s: pyproject.toml has no {kind} {name} (it has: {there}).")
    return known[name]


def pipfile(text: str, groups: Iterable[str] = ()) -> list[str]:
    """
    Convert a Pipfile.lock to pip's format.

    Parameters
    ----------
    text : str
        The lock, in JSON.
    groups : iterable of str
        Categories to install besides ``default``.

    Returns
    -------
    list of str
        Lines with hashes, indexes first, also the public one.
    """
    try:
        lock = json.loads(text)
    except json.JSONDecodeError as error:
        raise SystemExit(f"Pipfile.lock is not valid JSON: {error}") from None
    sources = lock.get("_meta", {}).get("sources", [])
    lines = [f"--extra-index-url {source['url']}" for source in sources]
    for group in ("default", *groups):
        if group not in lock:
            raise SystemExit(f"groups: Pipfile.lock has no category {group}.")
        lines += [_pipfile_line(name, package) for name, package in lock[group].items()]
    return list(dict.fromkeys(lines))


def _pipfile_line(name: str, package: dict | str) -> str:
    if isinstance(package, str):
        return f"{name}{package}"
    extras = f"[{','.join(package['extras'])}]" if package.get("extras") else ""
    marker = f" ; {package['markers']}" if package.get("markers") else ""
    if "git" in package:
        ref = f"@{package['ref']}" if package.get("ref") else ""
        folder = f"#subdirectory={package['subdirectory']}" if package.get("subdirectory") else ""
        address = package["git"] if package["git"].startswith("git+") else f"git+{package['git']}"
        # pip knows only the form with a scheme.
        address = re.sub(r"^git\+(?!\w+://)([^/:]+@[^/:]+):", r"git+ssh://\1/", address)
        return f"{name}{extras} @ {address}{ref}{folder}{marker}"
    if "path" in package:
        return f"{package['path']}{extras}{marker}"
    if "file" in package:
        return f"{name}{extras} @ {package['file']}{marker}"
    hashes = "".join(f" --hash={value}" for value in package.get("hashes", []))
    return f"{name}{extras}{package.get('version', '').replace('*', '')}{marker}{hashes}"
