"""The guest book: visitors leave messages and read the latest ones."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import delete, func, select, text
from wtforms import StringField, TextAreaField
from wtforms.validators import DataRequired, Length

from my_flask_webpage.accounts import client_network
from my_flask_webpage.extensions import db
from my_flask_webpage.forms import storable, tidy
from my_flask_webpage.models import (
    BODY_MAX_LENGTH,
    NAME_MAX_LENGTH,
    Message,
    MessageSender,
    utc_now,
)

LATEST_COUNT = 20
# The period of `MESSAGES_PER_HOUR` and `MESSAGES_PER_HOUR_IN_ALL`.
WINDOW = timedelta(hours=1)

blueprint = Blueprint("messages", __name__, url_prefix="/messages")


class MessageForm(FlaskForm):
    """A visitor's name and message."""

    name = StringField(
        "Your name",
        filters=[tidy],
        validators=[
            DataRequired("Please enter a name."),
            Length(max=NAME_MAX_LENGTH, message="A name can have at most %(max)d characters."),
            storable,
        ],
    )
    body = TextAreaField(
        "Message",
        filters=[tidy],
        validators=[
            DataRequired("Please write a message."),
            Length(max=BODY_MAX_LENGTH, message="A message can have at most %(max)d characters."),
            storable,
        ],
    )


def latest_messages() -> Sequence[Message]:
    """Fetch the latest messages, newest first."""
    return db.session.scalars(select(Message).order_by(Message.id.desc()).limit(LATEST_COUNT)).all()


def count_sender(address: str | None) -> timedelta | None:
    """Count a message of a client in the database, and so for all processes together.

    Returns
    -------
    datetime.timedelta or None
        None if the message may be saved; commit the session together with it. Otherwise how long
        the client has to wait.
    """
    now, config = utc_now(), current_app.config
    key, network = config["SECRET_KEY"].encode(), client_network(address).encode()
    sender = hmac.new(key, b"message sender " + network, hashlib.sha256).hexdigest()
    # Lock out other senders until the commit. SQLite has one writer at a time anyway, and the
    # DELETE below makes this transaction the writer.
    if db.engine.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended('messages', 0))")
        db.session.execute(lock)
    db.session.execute(delete(MessageSender).where(MessageSender.at <= now - WINDOW))
    recent = select(func.min(MessageSender.at), func.count())
    for query, allowed in (
        (recent.where(MessageSender.sender == sender), config["MESSAGES_PER_HOUR"]),
        (recent, config["MESSAGES_PER_HOUR_IN_ALL"]),
    ):
        oldest, count = db.session.execute(query).one()
        if count >= allowed:
            db.session.commit()
            return max(oldest + WINDOW - now, timedelta(seconds=1))
    db.session.add(MessageSender(sender=sender, at=now))
    return None


@blueprint.app_template_filter("moment")
def write_moment(moment: datetime) -> str:
    """Format a time as ``3 May 2026, 14:05 UTC``."""
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


@blueprint.get("")
def index() -> str:
    """Show the form and the latest messages."""
    return render_template("messages/index.html", form=MessageForm(), messages=latest_messages())


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Save a message, then redirect, so that a reload does not send it again."""
    form = MessageForm()
    if not form.validate():
        page = render_template("messages/index.html", form=form, messages=latest_messages())
        return page, 400
    if wait := count_sender(request.remote_addr):
        minutes = -(-wait // timedelta(minutes=1))
        page = render_template(
            "messages/index.html", form=form, messages=latest_messages(), wait_minutes=minutes
        )
        return page, 429, {"Retry-After": str(-(-wait // timedelta(seconds=1)))}
    message = Message(name=form.name.data, body=form.body.data)
    db.session.add(message)
    db.session.commit()
    flash("Thank you. Your message is shown below.")
    return redirect(url_for(".index", _anchor=f"message-{message.id}"), code=303)
