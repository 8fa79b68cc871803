"""The internal area, where the owner changes the site without touching the JSON files.

`init_db` leaves alone whatever was changed here. A row that came from a file is hidden instead of
deleted, because the next release would bring it back.
"""

from flask import Blueprint, render_template
from flask_login import login_required

from my_flask_webpage.internal import images, messages, projects

blueprint = Blueprint("internal", __name__, url_prefix="/internal")
for feature in (projects, images, messages):
    blueprint.register_blueprint(feature.blueprint)


@blueprint.before_request
@login_required
def require_login() -> None:
    """Send everybody but the owner to the login."""


@blueprint.get("/")
def index() -> str:
    """List all projects, the hidden ones last."""
    return render_template("internal/index.html", projects=projects.list_projects())
