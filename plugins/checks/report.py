"""Findings, in words that an operator can act on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

SECRET_NAME = re.compile(
    r"vault_|secret|passw|token|private|credential|hmac|(^|[._])(key|certificate_key)$", re.I
)


class Unknown:
    """A value whose template failed, which is reported once; no other rule applies to it."""

    def __repr__(self) -> str:
        """Return the text for a report."""
        return "(cannot be computed)"


UNKNOWN = Unknown()
HIDDEN = object()  # a value that must not be shown

# Rules and frames around the text of another program's message, but not the first characters of
# __init__.py or --force.
DECORATION = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]"
    r"|^\s*(?:[@=*#_~^-]+\s+|[@=*#_~^-]{3,})+|(?:\s+[@=*#_~^-]+|[@=*#_~^-]{3,})+\s*$"
)
# Lines of such a message that mean nothing alone.
CHATTER = re.compile(
    r"traceback \(most recent|file \"[^\"]+\", line \d|exception group traceback"
    r"|(warning: )?permanently added|it is possible that someone|someone could be eavesdropping"
    r"|it is also possible that a host key|the fingerprint for the|please contact your system"
    r"|debug\d: |openssh_\d|pseudo-terminal will not|shared connection to|connection to \S+ closed",
    re.IGNORECASE,
)
# Lines of such a message that say what is wrong.
TELLING = re.compile(
    r"error|fail|denied|refused|reject|cannot|can't|could ?n.t|could not|unable|\bnot?\b|missing"
    r"|invalid|unknown|changed|expired|timed out|closed|reset|unreachable|killed|full",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finding:
    """
    One thing that is wrong.

    Parameters
    ----------
    variable : str
        The path of the variable, such as ``apps.shop.domains``.
    wrong : str
        What is wrong.
    fix : str
        What to do about it.
    value : Any, optional
        The value, unless it is ``HIDDEN``, as every secret's is.
    warning : bool, optional
        Whether the run may go on.
    """

    variable: str
    wrong: str
    fix: str
    value: Any = HIDDEN
    warning: bool = False

    def __str__(self) -> str:
        """Return the finding as one line."""
        shown = "" if self.value is HIDDEN else f" = {show(self.value)}"
        return f"{self.variable}{shown}: {self.wrong}. {self.fix}"


def show(value: Any) -> str:
    """Show a value on one line, cut to a readable length, and without a URL's password."""
    text = re.sub(r"(://)[^/@\s]*@", r"\1***@", repr(_plain(value)))
    return text if len(text) <= 90 else text[:87] + "..."


def _plain(value: Any) -> Any:
    # The repr of Ansible's subclasses of str, list and dict contains their class names.
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, str) else value


def shown_unless_secret(name: str, value: Any) -> Any:
    """Return a value, or HIDDEN if the variable's name suggests a secret."""
    return HIDDEN if SECRET_NAME.search(name) else value


def type_name(value: Any) -> str:
    """Name the type of a value; Ansible's own classes are named after Python's."""
    kinds = (bool, int, float, dict, list)
    fits = (kind.__name__ for kind in kinds if isinstance(value, kind))
    return next(fits, type(value).__name__.lstrip("_"))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant, or an empty string."""
    close = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else ""


def quote(text: Any, limit: int = 300) -> str:
    """
    Shorten another program's message to its most telling lines.

    Parameters
    ----------
    text : Any
        The message. Its last lines are usually the nearest to the cause.
    limit : int, optional
        How many characters to keep, roughly.

    Returns
    -------
    str
        One line. If not all lines fit, those that say what is wrong are kept first. Only a line
        that is longer than the limit is cut, after a sentence or a word.
    """
    paragraphs = _paragraphs(str(text))
    telling = [n for n, paragraph in enumerate(paragraphs) if TELLING.search(paragraph)]
    others = [n for n in range(len(paragraphs)) if n not in telling]
    chosen: list[int] = []
    room = limit
    for number in [*reversed(telling), *reversed(others)]:
        if len(paragraphs[number]) + 2 <= room or not chosen:
            chosen.append(number)
            room -= len(paragraphs[number]) + 2
    words = [_cut(paragraphs[number], limit) for number in sorted(chosen)]
    ends = [word if word[-1] in ".:;!?," else f"{word};" for word in words]
    return " ".join(ends).rstrip(";:,")


def _paragraphs(text: str) -> list[str]:
    """Join indented continuation lines, and drop chatter and repeated lines."""
    found: list[str] = []
    in_traceback = False
    for raw in text.replace("\r", "\n").expandtabs().split("\n"):
        line = " ".join(DECORATION.sub("", raw).split())
        if not re.search(r"\w", line):
            continue
        goes_on = raw.startswith(" ") and bool(found)
        if in_traceback and raw.startswith(" "):
            continue
        in_traceback = "Traceback (most recent" in line
        if CHATTER.match(line):
            continue
        if goes_on and not found[-1].endswith((".", "!", "?")):
            found[-1] += f" {line}"
        elif line not in found:
            found.append(line)
    return found


def _cut(text: str, limit: int) -> str:
    """Cut a long line after its last sentence, or else after a word."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    sentence = max(head.rfind(mark) for mark in (". ", "; ", "! ", "? "))
    if sentence > limit // 2:
        return head[: sentence + 1]
    return head.rsplit(" ", 1)[0].rstrip(" ,;:") + " ..."
