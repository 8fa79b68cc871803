"""What is wrong, in words an operator can act on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

SECRET_NAME = re.compile(
    r"vault_|secret|passw|token|private|credential|hmac|(^|[._])(key|certificate_key)$", re.I
)


class Unknown:
    """Stand in for a value whose template failed: that is reported once, and no rule applies."""

    def __repr__(self) -> str:
        """Show what a report should say."""
        return "(cannot be computed)"


UNKNOWN = Unknown()
HIDDEN = object()  # a value that must not be shown


@dataclass(frozen=True)
class Finding:
    """
    One thing that is wrong.

    Parameters
    ----------
    variable : str
        Where it is, as an operator would write it, such as ``apps.shop.domains``.
    wrong : str
        What is wrong.
    fix : str
        What to do about it.
    value : Any, optional
        The value, unless it is ``HIDDEN``, as every secret's is.
    warning : bool, optional
        Whether the deployment may go on.
    """

    variable: str
    wrong: str
    fix: str
    value: Any = HIDDEN
    warning: bool = False

    def __str__(self) -> str:
        """Say it in one line."""
        shown = "" if self.value is HIDDEN else f" = {show(self.value)}"
        return f"{self.variable}{shown}: {self.wrong}. {self.fix}"


def show(value: Any) -> str:
    """Show a value on one line, cut to a readable length, and without a URL's password."""
    text = re.sub(r"(://)[^/@\s]*@", r"\1***@", repr(_plain(value)))
    return text if len(text) <= 90 else text[:87] + "..."


def _plain(value: Any) -> Any:
    # Ansible's own subclasses of str, list and dict would show their names.
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, str) else value


def shown_unless_secret(name: str, value: Any) -> Any:
    """Return the value of a variable nobody knows, unless its name smells of a secret."""
    return HIDDEN if SECRET_NAME.search(name) else value


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the known name that was probably meant, or nothing."""
    close = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else ""
