"""The internal area, where the owner edits the site in the browser.

`init_db` does not overwrite changes made here. A row that came from a JSON file is hidden instead
of deleted, because the next release would create it again.
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
    """Redirect visitors who are not logged in to the login form."""


@blueprint.get("/")
def index() -> str:
    """List all projects, the hidden ones last."""
    return render_template("internal/index.html", projects=projects.list_projects())
