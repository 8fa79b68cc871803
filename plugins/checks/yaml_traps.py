"""Find values that YAML reads as something else than what is written, such as ``12:30``."""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from module_utils.app import NAME, entry_options

from checks.report import Finding, shown_unless_secret

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
BOOL = "tag:yaml.org,2002:bool"


def yaml_traps(text: str) -> list[Finding]:
    """
    Look through the ``apps`` of a file of variables.

    Parameters
    ----------
    text : str
        The file. What is not valid YAML is reported elsewhere.

    Returns
    -------
    list of Finding
        A problem for each number that changes when it is read, and a warning for each ``yes``.
    """
    if "apps" not in text:
        return []
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        return []
    found = []
    for document in documents:
        for apps in _values(document, "apps"):
            for number, entry in enumerate(_items(apps)):
                found += _of_entry(entry, number)
    return found


def _values(node: Any, key: str) -> Iterator[yaml.Node]:
    """Yield the values of a key, wherever it is in a document."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                yield value
            else:
                yield from _values(value, key)


def _items(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _of_entry(entry: yaml.Node, number: int) -> list[Finding]:
    if not isinstance(entry, yaml.MappingNode):
        return []
    pairs = [(name.value, value) for name, value in entry.value if isinstance(name.value, str)]
    name = next((value.value for key, value in pairs if key == "name"), None)
    place = f"apps.{name}" if isinstance(name, str) and NAME.fullmatch(name) else f"apps[{number}]"
    return [
        finding
        for key, value in pairs
        if key != "python"  # which has a rule of its own
        for path, scalar in _scalars(value, f"{place}.{key}")
        if (finding := _trap(path, scalar, entry_options().get(key, {}).get("type") == "int"))
    ]


def _scalars(node: yaml.Node, path: str) -> Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.SequenceNode):
        for number, inner in enumerate(node.value):
            yield from _scalars(inner, f"{path}[{number}]")
    elif isinstance(node, yaml.MappingNode):
        for name, inner in node.value:
            yield from _scalars(inner, f"{path}.{name.value}")


def _trap(path: str, node: yaml.ScalarNode, is_number: bool) -> Finding | None:
    text = node.value
    # Quoted text, and text with a tag such as !vault, stays as it is.
    if node.style or node.tag not in (*NUMBERS, BOOL):
        return None
    try:
        became = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None
    if node.tag == BOOL:
        if is_number or text.lower() in ("true", "false"):
            return None
        wrong = f"is written {text}, which YAML reads as {str(became).lower()}"
        fix = f"Write {str(became).lower()}, or put it in quotes to pass it as text"
        return Finding(path, wrong, fix, shown_unless_secret(path, became), warning=True)
    # Numbers of the project may be written in any way that does not look like something else.
    odd = re.match(r"[-+]?0\d|.*:", text) if is_number else str(became) != text
    if not odd:
        return None
    secret = shown_unless_secret(path, became) is not became
    if secret:
        return Finding(path, "is read by YAML as another value than written", "Put it in quotes")
    wrong = f"is written {text}, which YAML reads as {became}"
    fix = "Write a plain number, such as 512" if is_number else f"Put it in quotes: '{text}'"
    return Finding(path, wrong, fix, became)
