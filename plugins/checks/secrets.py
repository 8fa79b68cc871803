"""Rules for secrets: present, strong, and not an example. A finding never contains a secret."""

import re
from collections.abc import Collection
from typing import Any

from module_utils.app import has_postgres, required_secrets

from checks.report import UNKNOWN, Finding, type_name

LENGTH = 32
MAKE = (
    "`make vault ENV=FOLDER` adds missing secrets to an inventory's vault.yml; by hand, "
    "`openssl rand -base64 36` makes a value"
)
PLACEHOLDERS = (
    "changeme",
    "changethis",
    "replaceme",
    "replacethis",
    "yoursecret",
    "yourpassword",
    "placeholder",
    "notasecret",
    "insecure",
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_secrets(app: dict[str, Any], given: Any, where: str, examples: Collection[str]) -> list:
    """
    Check the secrets of one app.

    Parameters
    ----------
    app : dict
        Entry of the app.
    given : Any
        What ``vault_app_secrets`` holds for it.
    where : str
        How a finding names the variable.
    examples : collection of str
        Values from the project's own examples.

    Returns
    -------
    list of Finding
        Problems and warnings.
    """
    if given is UNKNOWN:
        return []
    needed = required_secrets(app)
    if not isinstance(given, dict | None):
        fix = "Write one entry per secret: NAME: value"
        return [Finding(where, "must be a dictionary", fix)]
    given = given or {}
    found = []
    for name in [*needed, *(n for n in given if n not in needed)]:
        place = f"{where}.{name}"
        if not NAME.fullmatch(str(name)):
            wrong = "is not a valid name for a variable and a file"
            found.append(Finding(place, wrong, "Use letters, digits and underscores"))
        elif name == "DATABASE_URL" and has_postgres(app):
            fix = "Remove it, or set database: external for a database elsewhere"
            found.append(Finding(place, "is made from POSTGRES_PASSWORD", fix))
        elif isinstance(app.get("environment"), dict) and name in app["environment"]:
            wrong = "is also in the app's environment"
            found.append(Finding(place, wrong, "Keep it here and remove it from environment"))
        found += _check_value(given.get(name), place, name in needed, examples)
    return found


def _check_value(secret: Any, place: str, strong: bool, examples: Collection[str]) -> list[Finding]:
    if secret is UNKNOWN:
        return []
    if secret is None or secret == "":
        return [Finding(place, "is missing", MAKE)]
    if not isinstance(secret, str):
        wrong = f"is not text but {type_name(secret)}"
        block = isinstance(secret, dict | list)
        fix = "Write the text as a block after |" if block else "Put the value in quotes"
        return [Finding(place, wrong, fix)]
    # Keys of programs may have several lines, such as PEM and JSON.
    if error := control_error(secret, multiline=not strong):
        return [Finding(place, *error)]
    plain = re.sub(r"[^a-z0-9]", "", secret.lower())
    if not secret.strip():
        return [Finding(place, "is blank", MAKE)]
    if secret in examples or plain in ("secret", "password", "todo", "test", "dev", "none"):
        return [Finding(place, "is an example value, which is public", MAKE)]
    if any(word in plain for word in PLACEHOLDERS):
        return [Finding(place, "is a placeholder, which is easy to guess", MAKE)]
    if strong and len(secret) < LENGTH:
        wrong = f"is shorter than {LENGTH} characters ({len(secret)})"
        return [Finding(place, wrong, MAKE)]
    if len(set(secret)) < 6:
        wrong = f"has only {len(set(secret))} different characters"
        return [Finding(place, wrong, MAKE, warning=True)]
    return []


def control_error(secret: str, multiline: bool = False) -> tuple[str, str] | None:
    """Find control characters in a secret; a `multiline` one may contain line breaks."""
    lines = secret.replace("\r\n", "\n").rstrip("\n").split("\n")
    if multiline and len(lines) > 1:
        # JSON may be indented by tabs.
        secret = "".join(lines).replace("\t", "")
    if secret.rstrip("\r\n") != secret:
        fix = "Write it in quotes on one line; a block ('|') ends with a line break, '|-' does not"
        return "ends with a line break", fix
    if re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", secret):
        return (
            "contains a line break or another control character",
            "Write it in quotes on one line",
        )
    return None
