"""Find the version of Python that an app asks for, and the image that has it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What is built from Debian packages: Debian 13's, and Debian 12's beside it.
DEBIAN = ("3.11", "3.13")
UPSTREAM = ("3.11", "3.12", "3.13", "3.14")
# Version of the image `python`, unless its name shows another one.
DEFAULT = "3.13"

VERSION = re.compile(r"3\.\d{1,2}")


@dataclass(frozen=True)
class Wish:
    """
    What a file says about Python.

    Parameters
    ----------
    where : str
        The file, and the key in it.
    text : str
        What is written there.
    is_pin : bool
        Whether that is one version, and not a range.
    """

    where: str
    text: str
    is_pin: bool

    def allows(self, version: str) -> bool:
        """Tell whether a version such as ``3.11`` is one of those that are meant."""
        if self.is_pin:
            return minor(self.text) in ("", version)
        return allows(self.text, version)


def minor(text: str) -> str:
    """Read the version without its patch level from text such as ``python-3.11.4``; or nothing."""
    match = re.search(r"(?<![\d.])3\.\d{1,2}(?!\d)", text)
    return match[0] if match else ""


def allows(specifier: str, version: str) -> bool:
    """
    Tell whether any patch release of a version fits a specifier.

    Parameters
    ----------
    specifier : str
        As in ``requires-python``, or Poetry's form with ``^`` and ``~``.
    version : str
        Such as ``3.11``.

    Returns
    -------
    bool
        True for a specifier that cannot be understood.
    """
    number = int(version.partition(".")[2])
    return any(_allows(part, number) for part in specifier.split("||"))


def _allows(specifier: str, number: int) -> bool:
    for part in re.split(
        r"[,\s]+(?=[<>=!~^*\d])", re.sub(r"([<>=!~^])\s+", r"\1", specifier.strip())
    ):
        match = re.fullmatch(
            r"(~=|===?|!=|<=|>=|<|>|\^|~)?\s*v?3(?:\.(\d+|\*))?(?:\.(\d+|\*))?\S*", part
        )
        if not match:
            # Another major version, or an expression of another tool.
            if re.fullmatch(r"(<|<=|\^|==)\s*2\S*", part):
                return False
            continue
        sign, second, third = match[1] or "==", match[2], match[3]
        if second in (None, "*"):
            # Such as >=3 and ==3.*; <3 allows none.
            if sign == "<":
                return False
            continue
        wanted, has_patch = int(second), third not in (None, "*", "0")
        rules = {
            "==": number == wanted,
            "===": number == wanted,
            "~": number == wanted,
            "~=": number == wanted if third is not None else number >= wanted,
            "^": number >= wanted,
            "!=": number != wanted or has_patch,
            ">=": number >= wanted,
            ">": number > wanted or (number == wanted and has_patch),
            "<": number < wanted or (number == wanted and has_patch),
            "<=": number <= wanted,
        }
        if not rules[sign]:
            return False
    return True


def wishes(folder: Path) -> list[Wish]:
    """List what the files of a folder say about Python; the first one decides."""
    found = []
    if text := _text(folder / ".python-version"):
        first = next((line for line in text.splitlines() if minor(line)), "")
        if first and not first.lstrip().startswith("#"):
            found.append(Wish(".python-version", first.strip(), is_pin=True))
    try:
        document = tomllib.loads(_text(folder / "pyproject.toml"))
    except tomllib.TOMLDecodeError:
        document = {}
    project = document.get("project")
    if isinstance(project, dict) and (text := project.get("requires-python")):
        found.append(Wish("requires-python in pyproject.toml", str(text), is_pin=False))
    poetry: Any = document
    for key in ("tool", "poetry", "dependencies"):
        poetry = poetry.get(key) if isinstance(poetry, dict) else None
    if isinstance(poetry, dict) and isinstance(poetry.get("python"), str):
        found.append(Wish("python in pyproject.toml", poetry["python"], is_pin=False))
    if match := re.search(r"python_requires\s*=\s*[\"']?([^\"'\n]+)", _text(folder / "setup.cfg")):
        found.append(Wish("python_requires in setup.cfg", match[1].strip(), is_pin=False))
    if minor(text := _text(folder / "runtime.txt").strip()):
        found.append(Wish("runtime.txt", text, is_pin=True))
    try:
        lock = json.loads(_text(folder / "Pipfile.lock") or "{}")
        version = lock["_meta"]["requires"]["python_version"]
    except (ValueError, KeyError, TypeError):
        version = ""
    if minor(str(version)):
        found.append(Wish("python_version in Pipfile.lock", str(version), is_pin=True))
    return found


def _text(file: Path) -> str:
    try:
        # A link may lead anywhere on this machine.
        if file.is_symlink() or not file.is_file() or file.stat().st_size > 10**7:
            return ""
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Choice:
    """
    The version for an app.

    Parameters
    ----------
    version : str
        Such as ``3.11``; empty for that of the image `python`.
    wrong : str
        What is wrong with it; empty if nothing is.
    fix : str
        What to do about that.
    mild : bool
        Whether the app may run all the same.
    """

    version: str = ""
    wrong: str = ""
    fix: str = ""
    mild: bool = False


def choose(
    given: str,
    found: Collection[Wish],
    available: Collection[str] = UPSTREAM,
    default: str = DEFAULT,
) -> Choice:
    """
    Choose the version of Python for an app.

    Parameters
    ----------
    given : str
        ``python`` in the app's entry, or nothing.
    found : collection of Wish
        What the source says.
    available : collection of str
        Versions that there are images of.
    default : str
        Version of the image `python`; empty if it is not known.

    Returns
    -------
    Choice
        The version, or what is wrong.
    """
    there = sorted({*available, *filter(None, [default])}, key=lambda v: int(v.partition(".")[2]))
    others = "set images_source to registry, or use a Dockerfile"
    if given:
        if given not in there:
            wrong = f"is not available: the images here have {' and '.join(there)}"
            return Choice(wrong=wrong, fix=f"Choose one of these, {others}")
        for wish in found:
            if not wish.allows(given):
                wrong = f"does not fit the source, where {wish.where} is {wish.text}"
                fix = "Correct one of them, or remove `python` from the entry"
                return Choice(given, wrong, fix, mild=wish.is_pin)
        return Choice("" if given == default else given)
    ranges = [wish for wish in found if not wish.is_pin]
    fitting = [v for v in there if all(wish.allows(v) for wish in ranges)]
    for wish in found:
        wanted = minor(wish.text) if wish.is_pin else ""
        if wanted and wanted in fitting:
            return Choice("" if wanted == default else wanted)
        if wanted and wanted not in there:
            use = default if default in fitting or not fitting else fitting[-1]
            wrong = (
                f"has {wish.text} in {wish.where}, but the images here have {' and '.join(there)}"
            )
            fix = f"The app runs with {use}. If it needs {wanted}, {others}"
            return Choice("" if use == default else use, wrong, fix, mild=True)
    if not fitting:
        wish = next(w for w in ranges if not w.allows(default or there[-1]))
        wrong = f"has {wish.text} as {wish.where}, but the images here have {' and '.join(there)}"
        return Choice(wrong=wrong, fix=f"Correct it, {others}")
    return Choice("" if not default or default in fitting else fitting[-1])


def image_key(version: str) -> str:
    """Name the image of a version, as in ``images_names``."""
    return f"python_{version.replace('.', '_')}" if version else "python"


def version_of_image(name: str) -> str:
    """Read the version from the name of an image of Python, such as ``python:3.13-slim``."""
    path = name.partition("@")[0].rpartition("/")[2]
    match = re.search(r":(3\.\d{1,2})(?!\d)", path)
    return match[1] if match else ""
