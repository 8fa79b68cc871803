"""The internal area: what the owner changes without touching the JSON files.

Whatever is changed here is marked as edited, and `init_db` leaves it alone from then on. What came
from a file is hidden instead of deleted, so that the next release does not bring it back.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from sqlalchemy import select
from sqlalchemy.orm import selectinload
from wtforms import BooleanField, Field, StringField, TextAreaField, ValidationError
from wtforms.validators import DataRequired, Length, Optional, Regexp

from my_flask_webpage import media
from my_flask_webpage.extensions import db
from my_flask_webpage.forms import storable, tidy
from my_flask_webpage.models import (
    CAPTION_MAX_LENGTH,
    SLUG_MAX_LENGTH,
    URL_MAX_LENGTH,
    Image,
    Message,
    Project,
)

MESSAGES_SHOWN = 200
LINKS_MAX = 20
LINK = re.compile(r"(?P<label>[^|]{1,80})\|\s*(?P<url>https?://[^\s/]\S*)")

# Larger numbers do not fit into Postgres' integer.
ID = "int(min=1, max=2147483647)"

blueprint = Blueprint("internal", __name__, url_prefix="/internal")


@blueprint.before_request
@login_required
def only_the_owner() -> None:
    """Send everybody else to the login."""


def check_links(form: FlaskForm, field: Field) -> None:
    """Refuse what is not a list of links, one a line.

    Parameters
    ----------
    form : flask_wtf.FlaskForm
        The form; not used.
    field : wtforms.Field
        The field to check.

    Raises
    ------
    wtforms.ValidationError
        If a line is none, or there are too many.
    """
    lines = [line for line in field.data.splitlines() if line.strip()]
    for line in lines:
        match = LINK.fullmatch(line.strip())
        if match is None or not match["label"].strip() or len(match["url"]) > URL_MAX_LENGTH:
            raise ValidationError(f"Write “Label | https://…”, unlike this line: {line[:80]}")
    if len(lines) > LINKS_MAX:
        raise ValidationError(f"There may be {LINKS_MAX} links at most.")


class ProjectForm(FlaskForm):
    """What there is to say about a project."""

    title = StringField(
        "Title",
        filters=[tidy],
        validators=[DataRequired("Please give a title."), Length(max=120), storable],
    )
    slug = StringField(
        "Name in the address",
        description="Lower case letters, digits and dashes. Left empty, it is made from the title.",
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
        description="A sentence or three, for lists.",
        filters=[tidy],
        validators=[DataRequired("Please write a summary."), Length(max=2000), storable],
    )
    text = TextAreaField(
        "Text",
        description="For the project's own page. An empty line begins a new paragraph.",
        filters=[tidy],
        validators=[Length(max=50_000), storable],
    )
    links = TextAreaField(
        "Links",
        description="One a line: Label | https://…",
        filters=[tidy],
        validators=[Length(max=15_000), storable, check_links],
    )
    highlighted = BooleanField("Show it on the start page")


class ImageForm(FlaskForm):
    """What there is to say about a picture."""

    alt = StringField(
        "What it shows",
        description="For who cannot see it.",
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
    """A new picture."""

    file = FileField("Picture", validators=[FileRequired("Please choose a picture.")])


@blueprint.get("/")
def index() -> str:
    """List all projects, the hidden ones last.

    Returns
    -------
    str
        The page.
    """
    projects = list_projects()
    return render_template("internal/index.html", projects=projects)


@blueprint.route("/projects/new", methods=["GET", "POST"])
def add_project() -> ResponseReturnValue:
    """Make a project.

    Returns
    -------
    flask.typing.ResponseReturnValue
        The form, or 303 to the new project.
    """
    form = ProjectForm()
    if form.validate_on_submit():
        last = max((project.position for project in list_projects()), default=0)
        project = Project(edited=True, moved=True, position=last + 1)
        if fill(project, form):
            db.session.add(project)
            db.session.commit()
            flash(f"“{project.title}” is on the site.")
            return redirect(url_for(".edit_project", project_id=project.id), code=303)
    return page_or_400("internal/project.html", form, project=None)


@blueprint.route(f"/projects/<{ID}:project_id>", methods=["GET", "POST"])
def edit_project(project_id: int) -> ResponseReturnValue:
    """Change a project, or look at its pictures.

    Parameters
    ----------
    project_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        The form, or 303 to it again.
    """
    project = db.get_or_404(Project, project_id)
    form = ProjectForm(data=written(project))
    if form.validate_on_submit() and fill(project, form):
        project.edited = True
        db.session.commit()
        flash("The changes are on the site.")
        return redirect(url_for(".edit_project", project_id=project_id), code=303)
    db.session.rollback()
    return page_or_400("internal/project.html", form, project=project, upload=UploadForm())


@blueprint.route(f"/projects/<{ID}:project_id>/delete", methods=["GET", "POST"])
def delete_project(project_id: int) -> ResponseReturnValue:
    """Ask, then take a project off the site with all its pictures.

    Parameters
    ----------
    project_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        The question, or 303 to the list.
    """
    project = db.get_or_404(Project, project_id)
    form = FlaskForm()
    if form.validate_on_submit():
        digests = [image.digest for image in project.images]
        if project.from_file:
            project.hidden = project.edited = True
        else:
            db.session.delete(project)
        db.session.commit()
        remove_unused(digests)
        flash("The project is off the site.")
        return redirect(url_for(".index"), code=303)
    back = url_for(".edit_project", project_id=project_id)
    return page_or_400("internal/delete.html", form, name=project.title, row=project, back=back)


@blueprint.post(f"/projects/<{ID}:project_id>/show")
def show_project(project_id: int) -> ResponseReturnValue:
    """Put a hidden project back on the site.

    Parameters
    ----------
    project_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        303 to the list.
    """
    project = db.get_or_404(Project, project_id)
    project.hidden, project.edited = False, True
    db.session.commit()
    flash(f"“{project.title}” is on the site again.")
    return redirect(url_for(".index"), code=303)


@blueprint.post(f"/projects/<{ID}:project_id>/move")
def move_project(project_id: int) -> ResponseReturnValue:
    """Move a project up or down by one.

    Parameters
    ----------
    project_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        303 to the list.
    """
    project = db.get_or_404(Project, project_id)
    move(list_projects(), project)
    return redirect(url_for(".index", _anchor=f"project-{project_id}"), code=303)


@blueprint.post(f"/projects/<{ID}:project_id>/images")
def add_image(project_id: int) -> ResponseReturnValue:
    """Take in a picture.

    Parameters
    ----------
    project_id : int
        Whose gallery it goes into.

    Returns
    -------
    flask.typing.ResponseReturnValue
        303 to the project, or the form with its complaints at 400.
    """
    project = db.get_or_404(Project, project_id)
    upload = UploadForm()
    if upload.validate():
        try:
            picture = media.store(upload.file.data.read(), media_folder())
        except media.PictureError as error:
            upload.file.errors = [str(error)]
        else:
            last = max((image.position for image in project.images), default=0)
            image = Image(
                project=project,
                digest=picture.digest,
                width=picture.width,
                height=picture.height,
                widths=picture.widths,
                alt=upload.alt.data,
                caption=upload.caption.data,
                credit=upload.credit.data,
                edited=True,
                moved=True,
                position=last + 1,
            )
            db.session.add(image)
            db.session.commit()
            flash("The picture is on the site.")
            return redirect(
                url_for(".edit_project", project_id=project_id, _anchor=f"image-{image.id}"),
                code=303,
            )
    form = ProjectForm(formdata=None, data=written(project))
    page = render_template("internal/project.html", form=form, project=project, upload=upload)
    return page, 400


@blueprint.route(f"/images/<{ID}:image_id>", methods=["GET", "POST"])
def edit_image(image_id: int) -> ResponseReturnValue:
    """Change what is said about a picture.

    Parameters
    ----------
    image_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        The form, or 303 to the project.
    """
    image = db.get_or_404(Image, image_id)
    form = ImageForm(obj=image)
    if form.validate_on_submit():
        image.alt = form.alt.data
        image.caption = form.caption.data
        image.credit = form.credit.data
        image.edited = True
        db.session.commit()
        flash("The changes are on the site.")
        return redirect(gallery_of(image), code=303)
    return page_or_400("internal/image.html", form, image=image)


@blueprint.route(f"/images/<{ID}:image_id>/delete", methods=["GET", "POST"])
def delete_image(image_id: int) -> ResponseReturnValue:
    """Ask, then take a picture off the site.

    Parameters
    ----------
    image_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        The question, or 303 to the project.
    """
    image = db.get_or_404(Image, image_id)
    back = gallery_of(image)
    form = FlaskForm()
    if form.validate_on_submit():
        if image.from_file:
            image.hidden = image.edited = True
        else:
            db.session.delete(image)
        db.session.commit()
        remove_unused([image.digest])
        flash("The picture is off the site.")
        return redirect(back, code=303)
    return page_or_400("internal/delete.html", form, name=image.alt, row=image, back=back)


@blueprint.post(f"/images/<{ID}:image_id>/show")
def show_image(image_id: int) -> ResponseReturnValue:
    """Put a hidden picture back into its gallery.

    Parameters
    ----------
    image_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        303 to the project.
    """
    image = db.get_or_404(Image, image_id)
    image.hidden, image.edited = False, True
    db.session.commit()
    flash("The picture is on the site again.")
    return redirect(gallery_of(image), code=303)


@blueprint.post(f"/images/<{ID}:image_id>/move")
def move_image(image_id: int) -> ResponseReturnValue:
    """Move a picture up or down by one; the first one stands for its project in lists.

    Parameters
    ----------
    image_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        303 to the project.
    """
    image = db.get_or_404(Image, image_id)
    move([other for other in image.project.images if not other.hidden], image)
    return redirect(gallery_of(image), code=303)


@blueprint.get("/messages")
def messages() -> str:
    """List the messages, newest first.

    Returns
    -------
    str
        The page.
    """
    latest = select(Message).order_by(Message.id.desc()).limit(MESSAGES_SHOWN)
    return render_template("internal/messages.html", messages=db.session.scalars(latest).all())


@blueprint.post(f"/messages/<{ID}:message_id>/delete")
def delete_message(message_id: int) -> ResponseReturnValue:
    """Delete a message.

    Parameters
    ----------
    message_id : int
        Which one.

    Returns
    -------
    flask.typing.ResponseReturnValue
        303 to the list.
    """
    db.session.delete(db.get_or_404(Message, message_id))
    db.session.commit()
    flash("The message is deleted.")
    return redirect(url_for(".messages"), code=303)


def page_or_400(template: str, form: FlaskForm, **context: object) -> ResponseReturnValue:
    """Render a form, with status 400 if it came back with mistakes.

    Parameters
    ----------
    template : str
        Name of the template.
    form : flask_wtf.FlaskForm
        The form.
    **context : object
        What else the template needs.

    Returns
    -------
    flask.typing.ResponseReturnValue
        The page and its status.
    """
    page = render_template(template, form=form, **context)
    return page, 400 if form.is_submitted() else 200


def list_projects() -> Sequence[Project]:
    """Fetch all projects in their order, the hidden ones last.

    Returns
    -------
    Sequence[Project]
        The projects with their pictures.
    """
    query = select(Project).order_by(Project.hidden, Project.position, Project.id)
    return db.session.scalars(query.options(selectinload(Project.images))).all()


def fill(project: Project, form: ProjectForm) -> bool:
    """Take over what was filled in.

    Parameters
    ----------
    project : Project
        The project to change.
    form : ProjectForm
        A form that is valid by itself.

    Returns
    -------
    bool
        False, with a complaint in the form, if another project has the slug.
    """
    slug = form.slug.data or make_slug(form.title.data)
    with db.session.no_autoflush:
        other = db.session.scalar(select(Project).filter_by(slug=slug))
    if other is not None and other is not project:
        form.slug.errors = [
            f"“{other.title}” has the name “{slug}” already. Please choose another."
        ]
        return False
    project.slug = slug
    project.title = form.title.data
    project.period = form.period.data
    project.summary = form.summary.data
    project.text = form.text.data
    project.links = read_links(form.links.data)
    project.highlighted = form.highlighted.data
    return True


def make_slug(title: str) -> str:
    """Make a slug from a title.

    Parameters
    ----------
    title : str
        Any text.

    Returns
    -------
    str
        Lower case letters, digits and dashes; ``project`` if the text has none of them.
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall("[a-z0-9]+", plain))[:SLUG_MAX_LENGTH].strip("-") or "project"


def read_links(lines: str) -> list[dict[str, str]]:
    """Read links as the form has them.

    Parameters
    ----------
    lines : str
        Lines that `check_links` has accepted.

    Returns
    -------
    list[dict[str, str]]
        ``label`` and ``url`` of each.
    """
    matches = (LINK.fullmatch(line.strip()) for line in lines.splitlines())
    return [{"label": match["label"].strip(), "url": match["url"]} for match in matches if match]


def written(project: Project) -> dict[str, Any]:
    """Write a project as the form has it.

    Parameters
    ----------
    project : Project
        The project.

    Returns
    -------
    dict[str, Any]
        Values of the form's fields.
    """
    names = ("title", "slug", "period", "summary", "text", "highlighted")
    # A label from the file may have the sign that separates here.
    links = [f"{link['label'].replace('|', '/')} | {link['url']}" for link in project.links]
    return {**{name: getattr(project, name) for name in names}, "links": "\n".join(links)}


def move(rows: Sequence[Project] | Sequence[Image], row: Project | Image) -> None:
    """Move a row up or down by one among its neighbours, as the form's button says.

    Parameters
    ----------
    rows : Sequence[Project] or Sequence[Image]
        All rows of the list, in their order.
    row : Project or Image
        One of them.
    """
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


def remove_unused(digests: list[str]) -> None:
    """Remove the files of pictures that no row names any more.

    Parameters
    ----------
    digests : list[str]
        Pictures that have just lost a row.
    """
    used = set(db.session.scalars(select(Image.digest).where(Image.digest.in_(digests))))
    for digest in set(digests) - used:
        media.remove(digest, media_folder())


def media_folder() -> Path:
    """Name the media folder.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    return Path(current_app.config["MEDIA_DIR"])


def gallery_of(image: Image) -> str:
    """Name the place where a picture is edited.

    Parameters
    ----------
    image : Image
        The picture.

    Returns
    -------
    str
        An address.
    """
    return url_for(".edit_project", project_id=image.project_id, _anchor="gallery")
