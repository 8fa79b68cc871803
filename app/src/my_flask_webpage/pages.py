"""The pages that only show things."""

from flask import Blueprint, render_template
from sqlalchemy import select

from my_flask_webpage.extensions import db
from my_flask_webpage.models import Project

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index() -> str:
    """List the projects.

    Returns
    -------
    str
        The page. It sets no cookie.
    """
    projects = db.session.scalars(select(Project).order_by(Project.position, Project.id)).all()
    return render_template("pages/index.html", projects=projects)
