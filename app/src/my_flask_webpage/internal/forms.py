"""The forms of the internal area."""

import re

from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from wtforms import BooleanField, Field, StringField, TextAreaField, ValidationError
from wtforms.validators import DataRequired, Length, Optional, Regexp

from my_flask_webpage.forms import storable, tidy
from my_flask_webpage.models import CAPTION_MAX_LENGTH, SLUG_MAX_LENGTH, URL_MAX_LENGTH

LINKS_MAX = 20
LINK = re.compile(r"(?P<label>[^|]{1,80})\|\s*(?P<url>https?://[^\s/]\S*)")


def check_links(form: FlaskForm, field: Field) -> None:
    """Refuse text that is not a list of links, one per line."""
    lines = [line for line in field.data.splitlines() if line.strip()]
    for line in lines:
        match = LINK.fullmatch(line.strip())
        if match is None or not match["label"].strip() or len(match["url"]) > URL_MAX_LENGTH:
            raise ValidationError(f"Write “Label | https://…” instead of: {line[:80]}")
    if len(lines) > LINKS_MAX:
        raise ValidationError(f"At most {LINKS_MAX} links are allowed.")


def read_links(lines: str) -> list[dict[str, str]]:
    """Parse links that passed `check_links` into labels and URLs."""
    matches = (LINK.fullmatch(line.strip()) for line in lines.splitlines())
    return [{"label": match["label"].strip(), "url": match["url"]} for match in matches if match]


def write_links(links: list[dict[str, str]]) -> str:
    """Format links as text for `read_links`."""
    # A label from the JSON file may contain the separator.
    return "\n".join(f"{link['label'].replace('|', '/')} | {link['url']}" for link in links)


class ProjectForm(FlaskForm):
    """The texts and options of a project."""

    title = StringField(
        "Title",
        filters=[tidy],
        validators=[DataRequired("Please give a title."), Length(max=120), storable],
    )
    slug = StringField(
        "Name in the address",
        description="Lower case letters, digits and dashes. By default made from the title.",
        filters=[tidy],
        validators=[
            Optional(),
            Length(max=SLUG_MAX_LENGTH),
            Regexp(
                r"[a-z0-9]+(-[a-z0-9]+)*\Z", message="Lower case letters, digits and dashes only."
            ),
        ],
    )
    period = StringField(
        "Period",
        description="When it was, such as “2022 – 2024”.",
        filters=[tidy],
        validators=[Length(max=40), storable],
    )
    summary = TextAreaField(
        "Summary",
        description="One to three sentences, shown in lists.",
        filters=[tidy],
        validators=[DataRequired("Please write a summary."), Length(max=2000), storable],
    )
    text = TextAreaField(
        "Text",
        description="Shown on the project's own page. An empty line begins a new paragraph.",
        filters=[tidy],
        validators=[Length(max=50_000), storable],
    )
    links = TextAreaField(
        "Links",
        description="One per line: Label | https://…",
        filters=[tidy],
        validators=[Length(max=15_000), storable, check_links],
    )
    highlighted = BooleanField("Show it on the start page")


class ImageForm(FlaskForm):
    """The texts of a picture."""

    alt = StringField(
        "What it shows",
        description="For people who cannot see it.",
        filters=[tidy],
        validators=[
            DataRequired("Please say what it shows."),
            Length(max=CAPTION_MAX_LENGTH),
            storable,
        ],
    )
    caption = StringField(
        "Caption", filters=[tidy], validators=[Length(max=CAPTION_MAX_LENGTH), storable]
    )
    credit = StringField(
        "Credit",
        description="Who made it.",
        filters=[tidy],
        validators=[Length(max=CAPTION_MAX_LENGTH), storable],
    )


class UploadForm(ImageForm):
    """A new picture and its texts."""

    file = FileField("Picture", validators=[FileRequired("Please choose a picture.")])
