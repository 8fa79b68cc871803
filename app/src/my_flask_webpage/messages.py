"""The guest book: leave a message, read the latest."""

from collections.abc import Sequence

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import Field, StringField, TextAreaField, ValidationError
from wtforms.validators import DataRequired, Length

from my_flask_webpage.extensions import db
from my_flask_webpage.models import BODY_MAX_LENGTH, NAME_MAX_LENGTH, Message

LATEST_COUNT = 20

blueprint = Blueprint("messages", __name__, url_prefix="/messages")


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


class MessageForm(FlaskForm):
    """What a visitor fills in."""

    name = StringField(
        "Your name",
        filters=[tidy],
        validators=[
            DataRequired("Please give a name."),
            Length(max=NAME_MAX_LENGTH, message="A name has at most %(max)d characters."),
            storable,
        ],
    )
    body = TextAreaField(
        "Message",
        filters=[tidy],
        validators=[
            DataRequired("Please write a message."),
            Length(max=BODY_MAX_LENGTH, message="A message has at most %(max)d characters."),
            storable,
        ],
    )


def latest_messages() -> Sequence[Message]:
    """Fetch the newest messages.

    Returns
    -------
    Sequence[Message]
        At most `LATEST_COUNT`, newest first.
    """
    return db.session.scalars(select(Message).order_by(Message.id.desc()).limit(LATEST_COUNT)).all()


@blueprint.get("")
def index() -> str:
    """Show the form and the latest messages.

    Returns
    -------
    str
        The page.
    """
    return render_template("messages/index.html", form=MessageForm(), messages=latest_messages())


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Keep a message, then redirect, so that a reload does not send it again.

    Returns
    -------
    flask.typing.ResponseReturnValue
        303 to the new message, or the form with its errors at 400.
    """
    form = MessageForm()
    if not form.validate():
        page = render_template("messages/index.html", form=form, messages=latest_messages())
        return page, 400
    message = Message(name=form.name.data, body=form.body.data)
    db.session.add(message)
    db.session.commit()
    flash("Thank you. Your message is on the page.")
    return redirect(url_for(".index", _anchor=f"message-{message.id}"), code=303)
