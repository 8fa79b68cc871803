"""Filters and validators for all forms."""

from flask_wtf import FlaskForm
from wtforms import Field, ValidationError


def tidy(text: str | None) -> str:
    """Strip surrounding white space and turn CRLF into LF, so that lengths match the browser's."""
    return (text or "").replace("\r\n", "\n").strip()


def storable(form: FlaskForm, field: Field) -> None:
    """Refuse NUL, which Postgres cannot store in a text."""
    if "\x00" in field.data:
        raise ValidationError("This text contains a character that cannot be stored.")
