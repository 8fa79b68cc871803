"""Add, edit, reorder, hide and delete projects."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from my_flask_webpage.extensions import db
from my_flask_webpage.internal.forms import ProjectForm, UploadForm, read_links, write_links
from my_flask_webpage.internal.rows import move, remove_unused_files, render_form
from my_flask_webpage.models import SLUG_MAX_LENGTH, Project

# Fields that have the same name in the form and in the model.
TEXT_FIELDS = ("title", "period", "summary", "text", "highlighted")

blueprint = Blueprint("projects", __name__, url_prefix="/projects")


@blueprint.route("/new", methods=["GET", "POST"])
def add() -> ResponseReturnValue:
    """Add a project to the end of the list."""
    form = ProjectForm()
    if form.validate_on_submit():
        last = max((project.position for project in list_projects()), default=0)
        project = Project(edited=True, moved=True, position=last + 1)
        if fill(project, form):
            db.session.add(project)
            db.session.commit()
            flash(f"“{project.title}” is on the site.")
            return redirect(url_for(".edit", project_id=project.id), code=303)
    return render_form("internal/project.html", form, project=None)


@blueprint.route("/<id:project_id>", methods=["GET", "POST"])
def edit(project_id: int) -> ResponseReturnValue:
    """Edit the texts of a project, and show its pictures."""
    project = db.get_or_404(Project, project_id)
    form = ProjectForm(data=stored_values(project))
    if form.validate_on_submit() and fill(project, form):
        project.edited = True
        db.session.commit()
        flash("The changes are on the site.")
        return redirect(url_for(".edit", project_id=project_id), code=303)
    db.session.rollback()
    return render_form("internal/project.html", form, project=project, upload=UploadForm())


@blueprint.route("/<id:project_id>/delete", methods=["GET", "POST"])
def delete(project_id: int) -> ResponseReturnValue:
    """Ask for confirmation, then hide or delete a project with all its pictures."""
    project = db.get_or_404(Project, project_id)
    form = FlaskForm()
    if form.validate_on_submit():
        digests = [image.digest for image in project.images]
        if project.from_file:
            project.hidden = project.edited = True
        else:
            db.session.delete(project)
        db.session.commit()
        remove_unused_files(digests)
        flash("The project is off the site.")
        return redirect(url_for("internal.index"), code=303)
    back = url_for(".edit", project_id=project_id)
    return render_form("internal/delete.html", form, name=project.title, row=project, back=back)


@blueprint.post("/<id:project_id>/show")
def show(project_id: int) -> ResponseReturnValue:
    """Show a hidden project again."""
    project = db.get_or_404(Project, project_id)
    project.hidden, project.edited = False, True
    db.session.commit()
    flash(f"“{project.title}” is on the site again.")
    return redirect(url_for("internal.index"), code=303)


@blueprint.post("/<id:project_id>/move")
def change_order(project_id: int) -> ResponseReturnValue:
    """Move a project up or down by one."""
    project = db.get_or_404(Project, project_id)
    move(list_projects(), project)
    return redirect(url_for("internal.index", _anchor=f"project-{project_id}"), code=303)


def list_projects() -> Sequence[Project]:
    """Fetch all projects with their pictures in display order, the hidden ones last."""
    query = select(Project).order_by(Project.hidden, Project.position, Project.id)
    return db.session.scalars(query.options(selectinload(Project.images))).all()


def stored_values(project: Project) -> dict[str, Any]:
    """Return the values of a project for the fields of its form."""
    stored = {name: getattr(project, name) for name in TEXT_FIELDS}
    return {**stored, "slug": project.slug, "links": write_links(project.links)}


def fill(project: Project, form: ProjectForm) -> bool:
    """Copy a valid form into a project; return False if another project has the slug."""
    slug = form.slug.data or make_slug(form.title.data)
    with db.session.no_autoflush:
        other = db.session.scalar(select(Project).filter_by(slug=slug))
    if other is not None and other is not project:
        form.slug.errors = [
            f"“{other.title}” already has the name “{slug}”. Please choose another one."
        ]
        return False
    project.slug = slug
    project.links = read_links(form.links.data)
    for name in TEXT_FIELDS:
        setattr(project, name, form[name].data)
    return True


def make_slug(title: str) -> str:
    """Make a slug from a title; ``project`` if the title has no usable letter or digit."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall("[a-z0-9]+", plain))[:SLUG_MAX_LENGTH].strip("-") or "project"
