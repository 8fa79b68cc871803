"""What the forms of all features share."""

from flask_wtf import FlaskForm
from wtforms import Field, ValidationError


def tidy(text: str | None) -> str:
    """Strip surrounding white space, and count a line break once, as browsers do."""
    return (text or "").replace("\r\n", "\n").strip()


def storable(form: FlaskForm, field: Field) -> None:
    """Refuse NUL, which Postgres cannot store in a text."""
    if "\x00" in field.data:
        raise ValidationError("This text has a character that cannot be stored.")
