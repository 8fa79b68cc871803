"""Read and delete the visitors' messages."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from my_flask_webpage.extensions import db
from my_flask_webpage.models import Message

MESSAGES_SHOWN = 200

blueprint = Blueprint("messages", __name__, url_prefix="/messages")


@blueprint.get("")
def index() -> str:
    """List the latest messages, newest first."""
    latest = select(Message).order_by(Message.id.desc()).limit(MESSAGES_SHOWN)
    return render_template("internal/messages.html", messages=db.session.scalars(latest).all())


@blueprint.post("/<id:message_id>/delete")
def delete(message_id: int) -> ResponseReturnValue:
    """Delete a message."""
    db.session.delete(db.get_or_404(Message, message_id))
    db.session.commit()
    flash("The message is deleted.")
    return redirect(url_for(".index"), code=303)
