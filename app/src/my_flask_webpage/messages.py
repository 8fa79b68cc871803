"""The guest book: leave a message, read the latest."""

from collections.abc import Sequence
from datetime import datetime

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import StringField, TextAreaField
from wtforms.validators import DataRequired, Length

from my_flask_webpage.extensions import db
from my_flask_webpage.forms import storable, tidy
from my_flask_webpage.models import BODY_MAX_LENGTH, NAME_MAX_LENGTH, Message

LATEST_COUNT = 20

blueprint = Blueprint("messages", __name__, url_prefix="/messages")


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


@blueprint.app_template_filter("moment")
def write_moment(moment: datetime) -> str:
    """Write a moment for people.

    Parameters
    ----------
    moment : datetime
        A moment in UTC.

    Returns
    -------
    str
        Such as ``3 May 2026, 14:05 UTC``; the directives without a zero in front are not the same
        on all systems.
    """
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


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
