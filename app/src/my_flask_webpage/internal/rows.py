"""Helpers for the views of the internal area: row IDs in URLs, forms and the order of rows."""

from collections.abc import Sequence

from flask import abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import select
from werkzeug.routing import IntegerConverter, Map

from my_flask_webpage import media
from my_flask_webpage.extensions import db
from my_flask_webpage.models import Image, Project


class RowId(IntegerConverter):
    """URL converter for the ID of a row, up to the largest integer of Postgres."""

    def __init__(self, url_map: Map) -> None:
        super().__init__(url_map, min=1, max=2**31 - 1)


def render_form(template: str, form: FlaskForm, **context: object) -> ResponseReturnValue:
    """Render a form, with status 400 if it was submitted with errors."""
    page = render_template(template, form=form, **context)
    return page, 400 if form.is_submitted() else 200


def move(rows: Sequence[Project] | Sequence[Image], row: Project | Image) -> None:
    """Move a row up or down by one in `rows`, as the form's ``direction`` says."""
    direction = {"up": -1, "down": 1}.get(request.form.get("direction", ""))
    if direction is None or row not in rows:
        abort(400)
    order = list(rows)
    place = order.index(row)
    target = min(max(place + direction, 0), len(order) - 1)
    order.insert(target, order.pop(place))
    for position, item in enumerate(order, start=1):
        item.position = position
        item.moved = True
    db.session.commit()


def remove_unused_files(digests: list[str]) -> None:
    """Remove the files of those digests that no picture uses any more."""
    used = set(db.session.scalars(select(Image.digest).where(Image.digest.in_(digests))))
    for digest in set(digests) - used:
        media.remove(digest, media.root())
