"""The owner's content: the JSON files in ``resource/`` and the pictures beside them.

Both files are checked completely, and every error is reported with its location:

    resource/projects.json: $.projects[1].title: '' should be non-empty
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from jsonschema import Draft202012Validator

PROJECTS = "projects.json"
IMAGES = "images.json"
PICTURES = "images"

# Postgres cannot store these in a text: NUL and lone surrogates.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class ContentError(Exception):
    """The owner's files are invalid; `problems` has one line for each error."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Content:
    """The content of the owner's files.

    Attributes
    ----------
    site : dict
        The owner's name, role, introduction, contact and imprint.
    projects : list[dict]
        The projects in display order.
    images : list[dict]
        The pictures in display order.
    """

    site: dict[str, Any]
    projects: list[dict[str, Any]]
    images: list[dict[str, Any]]


def init_app(app: Flask) -> None:
    """Read the owner's files, and make `site` available in all templates."""
    app.jinja_env.globals["site"] = load_content(Path(app.config["RESOURCE_DIR"])).site


def load_content(folder: Path) -> Content:
    """Read the owner's files and check them against the schemas.

    Raises
    ------
    ContentError
        If anything is wrong, with every error in both files.
    """
    problems: list[str] = []
    found: dict[str, Any] = {}
    for name in (PROJECTS, IMAGES):
        try:
            found[name] = _parse((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"resource/{name}: {_reason(error)}")
            continue
        problems += [f"resource/{name}: {line}" for line in _violations(name, found[name])]
    if not problems:
        problems = list(_contradictions(found, folder))
    if problems:
        raise ContentError(problems)
    return Content(
        site=found[PROJECTS]["site"],
        projects=found[PROJECTS]["projects"],
        images=found[IMAGES]["images"],
    )


def _parse(raw: bytes) -> Any:
    # Windows editors may start a file with a byte order mark.
    return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unambiguous)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"duplicate keys in one object: {', '.join(twice)}")
    return entry


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"is not valid UTF-8 at byte {error.start}"
    return f"is not valid JSON: {error}"


def _violations(name: str, value: Any) -> Iterator[str]:
    # The schemas are part of the package, also when RESOURCE_DIR is another folder.
    schema = Path(__file__).parent / "resource" / name.replace(".json", ".schema.json")
    validator = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    for error in sorted(validator.iter_errors(value), key=lambda error: error.json_path):
        yield f"{error.json_path}: {_short(error.message)}"
    yield from _unstorable(value, "$")


def _unstorable(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str) and UNSTORABLE.search(value):
        yield f"{path}: contains a character that cannot be stored"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _unstorable(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, f"{path}[{index}]")


def _short(message: str) -> str:
    # jsonschema repeats the whole value, which may be long, and says at the end what is wrong.
    text = message if len(message) <= 200 else f"{message[:80]} … {message[-100:]}"
    return text.encode("utf-8", "backslashreplace").decode()


def _contradictions(found: dict[str, Any], folder: Path) -> Iterator[str]:
    slugs: set[str] = set()
    for index, project in enumerate(found[PROJECTS]["projects"]):
        if project["slug"] in slugs:
            place = f"resource/{PROJECTS}: $.projects[{index}].slug"
            yield f"{place}: duplicate slug {project['slug']!r}"
        slugs.add(project["slug"])
    seen: set[tuple[str, str]] = set()
    for index, image in enumerate(found[IMAGES]["images"]):
        place = f"resource/{IMAGES}: $.images[{index}]"
        if image["project"] not in slugs:
            yield f"{place}.project: unknown project {image['project']!r}"
        if not (folder / PICTURES / image["file"]).is_file():
            yield f"{place}.file: resource/{PICTURES}/{image['file']} does not exist"
        if (image["project"], image["file"]) in seen:
            yield f"{place}.file: duplicate picture {image['file']!r} in this gallery"
        seen.add((image["project"], image["file"]))
