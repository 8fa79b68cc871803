"""What the forms of all features share."""

from flask_wtf import FlaskForm
from wtforms import Field, ValidationError


def tidy(text: str | None) -> str:
    """Drop surrounding white space and count a line break once, as the browser does.

    Parameters
    ----------
    text : str or None
        What the form sent.

    Returns
    -------
    str
        The text to check and keep.
    """
    return (text or "").replace("\r\n", "\n").strip()


def storable(form: FlaskForm, field: Field) -> None:
    """Refuse NUL, which Postgres cannot store in a text.

    Parameters
    ----------
    form : flask_wtf.FlaskForm
        The form; not used.
    field : wtforms.Field
        The field to check.

    Raises
    ------
    wtforms.ValidationError
        If the text has a NUL character.
    """
    if "\x00" in field.data:
        raise ValidationError("This text has a character that cannot be stored.")
