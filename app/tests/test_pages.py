"""What a visitor sees."""

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import MakeApp, log_in, send
from flask import Flask, abort
from flask.testing import FlaskClient
from sqlalchemy import event

from my_flask_webpage.extensions import db
from my_flask_webpage.models import Image, Project

PAGES = ["/", "/projects/", "/projects/tidewater", "/imprint", "/privacy", "/messages", "/login"]


def test_start_page_shows_the_highlighted_projects_in_order(client: FlaskClient):
    response = client.get("/")
    assert response.status_code == 200
    titles = re.findall(r'<h3[^>]*><a href="/projects/[^"]+">([^<]+)</a></h3>', response.text)
    assert titles == ["Tidewater", "Paper Trail", "Lantern", "Field Notes"]
    assert "Night Shift" not in response.text


def test_list_shows_all_projects(client: FlaskClient):
    page = client.get("/projects/").text
    titles = re.findall(r'<h2[^>]*><a href="/projects/[^"]+">([^<]+)</a></h2>', page)
    assert titles[4:] == ["Night Shift", "Plain Maps"]
    assert "2019 – 2021" in page


def test_page_of_a_project_has_text_period_links_and_gallery(client: FlaskClient):
    page = client.get("/projects/tidewater").text
    assert "2024 – now" in page
    assert page.count("<p>") >= 3
    assert 'href="https://example.org/tidewater/tides"' in page
    assert page.count("<figure") == 2
    assert "Two tides a day, never at the same hour." in page
    assert "Picture: Mara Lindqvist" in page


@pytest.mark.parametrize("path", ["/projects/none", "/projects/%00", "/projects/A", "/projects/-"])
def test_project_that_is_none_answers_404(client: FlaskClient, path: str):
    assert client.get(path).status_code == 404


def test_pages_of_the_law_name_the_owner(client: FlaskClient):
    page = client.get("/imprint").text
    for part in ("Mara Lindqvist", "Harbour Lane 4", "mara@example.org"):
        assert part in page
    assert "data centre in Germany" in client.get("/privacy").text


class Tags(HTMLParser):
    """Collects start tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Collect a tag; called by the parser."""
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        """Return the attributes of each tag with this name."""
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize("path", ["/", "/projects/", "/projects/tidewater"])
def test_pictures_come_in_widths_with_their_size_and_late(client: FlaskClient, path: str):
    pictures = Tags(client.get(path).text).all("img")
    assert len(pictures) >= 2
    for picture in pictures:
        assert re.fullmatch(r"/media/[0-9a-f]{32}-480\.webp", picture["src"])
        widths = re.findall(r"-(\d+)\.webp (\d+)w", picture["srcset"])
        assert [int(a) for a, b in widths if a == b] == [480, 960, 1600]
        assert (picture["width"], picture["height"]) == ("1600", "1067")
        assert picture["alt"]
        assert picture["sizes"]
    # Only the first picture is visible at once.
    assert "loading" not in pictures[0]
    assert pictures[-1]["loading"] == "lazy"


@pytest.mark.parametrize("path", PAGES)
def test_pages_hold_no_inline_script_or_style_and_load_nothing_from_elsewhere(
    client: FlaskClient, path: str
):
    page = client.get(path).text
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=", page)
    tags = Tags(page)
    for attributes in [*tags.all("img"), *tags.all("link")]:
        address = attributes.get("src") or attributes["href"]
        assert address.startswith("/") or attributes.get("rel") == "canonical"


@pytest.mark.parametrize("path", PAGES)
def test_each_page_has_one_heading_a_language_and_landmarks(client: FlaskClient, path: str):
    tags = Tags(client.get(path).text)
    assert len(tags.all("h1")) == 1
    assert tags.all("html")[0]["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer"):
        assert tags.all(landmark)
    levels = [int(name[1]) for name, _ in tags.found if re.fullmatch("h[1-6]", name)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("path", ["/", "/projects/", "/projects/tidewater", "/imprint"])
def test_previews_on_other_sites_have_what_they_need(client: FlaskClient, path: str):
    metas = Tags(client.get(path).text).all("meta")
    found = {meta.get("property"): meta["content"] for meta in metas if "property" in meta}
    assert found["og:url"] == f"http://localhost{path}"
    for name in ("og:title", "og:description", "og:type"):
        assert found[name]
    if path in ("/", "/projects/tidewater"):
        address = found["og:image"].removeprefix("http://localhost")
        with client.get(address) as response:
            assert response.status_code == 200
            assert response.mimetype == "image/jpeg"


def test_search_engines_find_every_public_page_and_no_other(app: Flask, client: FlaskClient):
    with app.app_context():
        db.session.scalars(db.select(Project).filter_by(slug="lantern")).one().hidden = True
        db.session.commit()
    robots = client.get("/robots.txt").text
    assert "Disallow: /internal/" in robots
    assert "Sitemap: http://localhost/sitemap.xml" in robots
    sitemap = ElementTree.fromstring(client.get("/sitemap.xml").data)  # noqa: S314  # our own
    addresses = [node.text for node in sitemap.iter() if node.tag.endswith("loc")]
    assert "http://localhost/projects/tidewater" in addresses
    assert not any("lantern" in address for address in addresses)
    for address in addresses:
        assert client.get(address).status_code == 200


def test_icon_is_there_for_who_asks_for_it_by_habit(client: FlaskClient):
    with client.get("/favicon.ico") as response:
        assert response.status_code == 200
        assert response.data[:4] == b"\0\0\1\0"


def test_pages_escape_what_is_in_the_database(app: Flask, client: FlaskClient):
    bad = '"><u><b>x'
    with app.app_context():
        links = [{"label": bad, "url": f"https://x.y/{bad}"}]
        project = Project(
            slug="x", title=bad, period=bad, summary=bad, text=bad, links=links, position=0,
            highlighted=True,
        )  # fmt: skip
        project.images.append(
            Image(digest="0" * 32, width=1, height=1, widths=[1], alt=bad, caption=bad, credit=bad,
                  position=1)
        )  # fmt: skip
        db.session.add(project)
        db.session.commit()
    for path in ("/", "/projects/", "/projects/x", "/sitemap.xml"):
        page = client.get(path).text
        assert "<u>" not in page
        assert "<b>" not in page


def queries_of(app: Flask, client: FlaskClient, path: str) -> int:
    """Count the SQL statements of a request."""
    count = 0

    def add(*arguments: object) -> None:
        nonlocal count
        count += 1

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", add)
    try:
        assert client.get(path).status_code == 200
    finally:
        event.remove(engine, "before_cursor_execute", add)
    return count


def fill(app: Flask, projects: int, images: int) -> None:
    """Replace all projects with this number of highlighted ones."""
    with app.app_context():
        for project in db.session.scalars(db.select(Project)):
            db.session.delete(project)
        db.session.flush()
        for number in range(projects):
            project = Project(
                slug=f"p{number}", title=f"Project {number}", period="", summary="Summary",
                highlighted=True, position=number,
            )  # fmt: skip
            project.images = [
                Image(digest=f"{number:032x}", width=9, height=6, widths=[9], alt="A", position=p)
                for p in range(images)
            ]
            db.session.add(project)
        db.session.commit()


@pytest.mark.parametrize("path", ["/", "/projects/"])
def test_number_of_queries_does_not_grow_with_projects_and_pictures(app: Flask, path: str):
    client = app.test_client()
    for projects, images in ((1, 1), (200, 5)):
        fill(app, projects, images)
        page = client.get(path).text
        assert page.count('class="card"') == projects
        assert queries_of(app, client, path) == 2  # the projects, and all their pictures


def test_number_of_queries_of_the_other_pages(app: Flask, client: FlaskClient):
    assert queries_of(app, client, "/projects/tidewater") == 2
    assert queries_of(app, client, "/imprint") == 0
    assert queries_of(app, client, "/messages") == 1
    log_in(client)
    assert queries_of(app, client, "/") == 3  # one more for the user


def test_start_page_without_highlighted_or_any_projects_is_no_empty_frame(app: Flask):
    client = app.test_client()
    with app.app_context():
        for project in db.session.scalars(db.select(Project)):
            project.highlighted = False
        db.session.commit()
    assert "Plain Maps" in client.get("/").text
    fill(app, 0, 0)
    for path in ("/", "/projects/"):
        assert "Nothing to show yet." in client.get(path).text


def test_pages_without_tables_answer_a_readable_503(empty_app: Flask):
    client = empty_app.test_client()
    for path in ("/", "/messages"):
        response = client.get(path)
        assert response.status_code == 503
        assert "Temporarily unavailable" in response.text
        assert response.headers["Retry-After"]
        assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("code", "title"),
    [
        (400, "Bad request"),
        (403, "Access denied"),
        (404, "Page not found"),
        (413, "Too large"),
        (429, "Too many requests"),
        (500, "Something went wrong"),
    ],
)
def test_errors_are_pages_that_a_person_can_read(make_app: MakeApp, code: int, title: str):
    app = make_app(TESTING=False)
    app.add_url_rule("/error", view_func=lambda: abort(code))
    response = app.test_client().get("/error")
    assert response.status_code == code
    assert f"<h1>{title}</h1>" in response.text
    assert f"Error {code}" in response.text
    assert "private" in response.headers["Cache-Control"]
    assert "noindex" in response.text


def test_wrong_method_answers_405_and_names_the_right_ones(client: FlaskClient):
    response = client.open("/healthz", method="TRACE")
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]


def test_a_bug_answers_a_readable_500_and_is_logged(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
):
    app = make_app(TESTING=False)
    app.add_url_rule("/bug", view_func=lambda: {}["bug"])
    response = app.test_client().get("/bug")
    assert response.status_code == 500
    assert "Something went wrong" in response.text
    assert "KeyError" not in response.text
    assert "KeyError: 'bug'" in caplog.text


def test_a_mistake_in_a_query_is_a_bug_and_not_an_outage(make_app: MakeApp):
    app = make_app(TESTING=False)
    app.add_url_rule("/bug", view_func=lambda: str(db.session.execute(db.text("SELEKT 1"))))
    response = app.test_client().get("/bug")
    assert response.status_code == 500
    assert "SELEKT" not in response.text


def test_static_addresses_name_real_files_and_change_with_the_content(
    app: Flask, client: FlaskClient
):
    addresses = re.findall(r'"(/static/[^"]+)"', client.get("/").text)
    assert addresses
    for address in addresses:
        path, _, version = address.partition("?v=")
        assert re.fullmatch("[0-9a-f]{12}", version)
        on_disk = Path(app.static_folder, path.removeprefix("/static/"))
        with client.get(address) as response:
            assert response.data == on_disk.read_bytes()
            assert "immutable" in response.headers["Cache-Control"]
            tag = response.headers["ETag"]
        with client.get(address, headers={"If-None-Match": tag}) as response:
            assert response.status_code == 304


def test_static_file_without_a_fingerprint_is_not_kept_for_long(client: FlaskClient):
    with client.get("/static/style.css") as response:
        assert "immutable" not in response.headers["Cache-Control"]


def test_visitor_with_a_cookie_of_the_form_is_still_a_visitor(client: FlaskClient):
    send(client, "/messages", name="Ada", body="Hello")
    response = client.get("/imprint")
    assert response.headers["Cache-Control"].startswith("public")
