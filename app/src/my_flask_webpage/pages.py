"""The public pages, and the files for search engines."""

from collections.abc import Sequence

from flask import Blueprint, Response, abort, current_app, render_template, url_for
from sqlalchemy import Select, select
from sqlalchemy.orm import selectinload
from werkzeug.routing import BaseConverter

from my_flask_webpage.extensions import db
from my_flask_webpage.models import Project

blueprint = Blueprint("pages", __name__)


class Slug(BaseConverter):
    """URL converter for the slug of a project."""

    regex = r"[a-z0-9]+(?:-[a-z0-9]+)*"


def shown() -> Select[tuple[Project]]:
    """Select the visible projects in display order; one more query loads all their pictures."""
    return (
        select(Project)
        .filter_by(hidden=False)
        .order_by(Project.position, Project.id)
        .options(selectinload(Project.images))
    )


@blueprint.get("/")
def index() -> str:
    """Show the highlighted projects, or all of them if none is highlighted."""
    projects: Sequence[Project] = db.session.scalars(shown().filter_by(highlighted=True)).all()
    if not projects:
        projects = db.session.scalars(shown()).all()
    return render_template("pages/index.html", projects=projects)


@blueprint.get("/projects/")
def projects() -> str:
    """List all projects."""
    return render_template("pages/projects.html", projects=db.session.scalars(shown()).all())


@blueprint.get("/projects/<slug:slug>")
def project(slug: str) -> str:
    """Show one project."""
    found = db.session.scalar(shown().filter_by(slug=slug))
    if found is None:
        abort(404)
    return render_template("pages/project.html", project=found)


@blueprint.get("/imprint")
def imprint() -> str:
    """Show who is responsible for the site."""
    return render_template("pages/imprint.html")


@blueprint.get("/privacy")
def privacy() -> str:
    """Show what the site stores about its visitors."""
    return render_template("pages/privacy.html")


@blueprint.get("/favicon.ico")
def favicon() -> Response:
    """Send the icon to clients that request it without reading a page."""
    return current_app.send_static_file("favicon.ico")


@blueprint.get("/robots.txt")
def robots() -> Response:
    """Tell search engines what to skip, and where the sitemap is (RFC 9309)."""
    sitemap_url = url_for("pages.sitemap", _external=True)
    lines = ["User-agent: *", "Disallow: /internal/", "Disallow: /login", f"Sitemap: {sitemap_url}"]
    return Response("\n".join(lines) + "\n", mimetype="text/plain")


@blueprint.get("/sitemap.xml")
def sitemap() -> Response:
    """List the pages for search engines, in the format of sitemaps.org."""
    slugs = db.session.scalars(
        select(Project.slug).filter_by(hidden=False).order_by(Project.position, Project.id)
    )
    endpoints = (
        "pages.index",
        "pages.projects",
        "messages.index",
        "pages.imprint",
        "pages.privacy",
    )
    addresses = [url_for(endpoint, _external=True) for endpoint in endpoints]
    addresses += [url_for("pages.project", slug=slug, _external=True) for slug in slugs]
    page = render_template("pages/sitemap.xml", addresses=addresses)
    return Response(page, mimetype="application/xml")
