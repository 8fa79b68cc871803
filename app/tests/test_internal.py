"""The owner's changes in the internal area."""

import io
import re
from pathlib import Path

import pytest
from conftest import MakeApp, csrf_token, leave_message, log_in, picture, send
from flask import Flask
from flask.testing import FlaskClient

from my_flask_webpage.extensions import db
from my_flask_webpage.models import Image, Message, Project
from my_flask_webpage.setup.database import init_db

FIELDS = {
    "title": "Überbrücke & Co.",
    "slug": "",
    "period": "2026",
    "summary": "A bridge.",
    "text": "One.\r\n\r\nTwo.",
    "links": "Website | https://example.org/a|b\r\n\r\nSource | http://example.org/",
    "highlighted": "y",
}


def project_of(app: Flask, slug: str) -> Project:
    return db.session.scalars(db.select(Project).filter_by(slug=slug)).one()


def id_of(app: Flask, slug: str) -> int:
    with app.app_context():
        return project_of(app, slug).id


def images_of(app: Flask, project_id: int) -> list[int]:
    with app.app_context():
        return [image.id for image in db.session.get(Project, project_id).gallery]


def upload(client: FlaskClient, project_id: int, data: bytes, name: str = "a.jpg", **fields: str):
    form = f"/internal/projects/{project_id}"
    file = {"file": (io.BytesIO(data), name)}
    return send(client, f"{form}/images", form, alt="A square", **fields, **file)


def every_route(app: Flask) -> list[tuple[str, str]]:
    found = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("internal."):
            path = re.sub(r"<[^>]+>", "1", rule.rule)
            found += [(path, method) for method in rule.methods & {"GET", "POST"}]
    return found


def test_strangers_see_and_change_nothing(app: Flask, client: FlaskClient):
    routes = every_route(app)
    assert len(routes) > 15
    token = csrf_token(client)
    for path, method in routes:
        response = client.open(path, method=method, data={"csrf_token": token})
        assert response.status_code == 302, path
        assert response.headers["Location"].startswith("/login?next=")
        assert response.headers["Cache-Control"] == "private, no-store", path


def test_owner_s_forms_need_their_token(app: Flask, owner: FlaskClient):
    for path, method in every_route(app):
        if method == "POST":
            assert owner.post(path).status_code == 400, path


def test_owner_makes_a_project(app: Flask, owner: FlaskClient):
    response = send(owner, "/internal/projects/new", **FIELDS)
    assert response.status_code == 303
    page = app.test_client().get("/projects/uberbrucke-co").text
    assert "Überbrücke &amp; Co." in page
    assert "<p>One.</p>" in page
    assert 'href="https://example.org/a|b"' in page
    titles = re.findall(r'card-title"><a[^>]*>([^<]+)', app.test_client().get("/").text)
    assert titles[-1] == "Überbrücke &amp; Co."


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("title", "", "Please give a title."),
        ("title", "x" * 121, "longer than 120"),
        ("title", "nul \x00", "cannot be stored"),
        ("summary", " ", "Please write a summary."),
        ("slug", "Not A Slug", "Lower case letters"),
        ("slug", "line\nbreak", "Lower case letters"),
        ("slug", "lantern", "“Lantern” already has the name “lantern”"),
        ("links", "no link", "Write “Label"),
        ("links", "Evil | javascript:alert(1)", "Write “Label"),
        ("links", " | https://example.org", "Write “Label"),
        ("links", "\n".join(["a | https://example.org"] * 21), "At most 20 links"),
    ],
)
def test_project_with_mistakes_is_not_saved(
    app: Flask, owner: FlaskClient, field: str, value: str, complaint: str
):
    for path in ("/internal/projects/new", f"/internal/projects/{id_of(app, 'tidewater')}"):
        response = send(owner, path, **{**FIELDS, field: value})
        assert response.status_code == 400
        assert complaint in response.text
    with app.app_context():
        assert db.session.scalar(db.select(db.func.count()).select_from(Project)) == 6
        assert project_of(app, "tidewater").title == "Tidewater"


def test_owner_edits_a_project_and_the_next_release_keeps_it(app: Flask, owner: FlaskClient):
    path = f"/internal/projects/{id_of(app, 'tidewater')}"
    form = owner.get(path).text
    assert "Website | https://example.org/tidewater" in form
    assert send(owner, path, **{**FIELDS, "slug": "renamed"}).status_code == 303
    visitor = app.test_client()
    for _ in range(2):
        assert "Überbrücke" in visitor.get("/projects/renamed").text
        assert visitor.get("/projects/tidewater").status_code == 404
        init_db(app)


def test_owner_orders_projects_and_the_next_release_keeps_the_order(app: Flask, owner: FlaskClient):
    def order() -> list[str]:
        return re.findall(r'id="project-([a-z-]+)"', app.test_client().get("/projects/").text)

    before = order()
    path = f"/internal/projects/{id_of(app, 'lantern')}/move"
    assert send(owner, path, "/internal/", direction="up").status_code == 303
    moved = [before[0], before[2], before[1], *before[3:]]
    assert order() == moved
    init_db(app)
    assert order() == moved
    send(owner, path, "/internal/", direction="down")
    assert order() == before
    # At either end of the list nothing moves.
    first, last = id_of(app, before[0]), id_of(app, before[-1])
    send(owner, f"/internal/projects/{first}/move", "/internal/", direction="up")
    send(owner, f"/internal/projects/{last}/move", "/internal/", direction="down")
    assert order() == before
    assert send(owner, path, "/internal/", direction="sideways").status_code == 400


def test_project_from_the_file_is_hidden_and_stays_so(app: Flask, owner: FlaskClient):
    number = id_of(app, "lantern")
    question = owner.get(f"/internal/projects/{number}/delete")
    assert "hidden instead of deleted" in question.text
    assert send(owner, f"/internal/projects/{number}/delete").status_code == 303
    visitor = app.test_client()
    for _ in range(2):
        assert "Lantern" not in visitor.get("/projects/").text
        assert visitor.get("/projects/lantern").status_code == 404
        init_db(app)
    assert send(owner, f"/internal/projects/{number}/show", "/internal/").status_code == 303
    assert visitor.get("/projects/lantern").status_code == 200


def test_project_made_here_is_deleted_with_its_pictures(make_app: MakeApp, tmp_path: Path):
    app = make_app(MEDIA_DIR=str(tmp_path))
    owner = app.test_client()
    log_in(owner)
    response = send(owner, "/internal/projects/new", **FIELDS)
    number = int(response.headers["Location"].rsplit("/", 1)[1])
    assert upload(owner, number, picture()).status_code == 303
    assert len(list(tmp_path.iterdir())) == 2
    assert "cannot be restored" in owner.get(f"/internal/projects/{number}/delete").text
    send(owner, f"/internal/projects/{number}/delete")
    assert list(tmp_path.iterdir()) == []
    with app.app_context():
        assert db.session.get(Project, number) is None
        assert db.session.scalar(db.select(db.func.count()).select_from(Image)) == 9


def test_owner_adds_edits_orders_and_deletes_a_picture(app: Flask, owner: FlaskClient):
    number = id_of(app, "plain-maps")
    before = images_of(app, number)
    response = upload(owner, number, picture(size=(900, 600)), caption="Ours", credit="Me")
    assert response.status_code == 303
    (new,) = set(images_of(app, number)) - set(before)
    assert response.headers["Location"].endswith(f"#image-{new}")
    page = app.test_client().get("/projects/plain-maps").text
    assert 'alt="A square"' in page
    assert "Picture: Me" in page
    assert 'width="900" height="600"' in page

    path = f"/internal/images/{new}"
    assert 'value="Ours"' in owner.get(path).text
    assert send(owner, path, alt="A red square", caption="Mine", credit="").status_code == 303
    assert send(owner, path, alt="", caption="", credit="").status_code == 400
    page = app.test_client().get("/projects/plain-maps").text
    assert "Mine" in page
    assert "Ours" not in page

    form = f"/internal/projects/{number}"
    assert send(owner, f"{path}/move", form, direction="up").status_code == 303
    assert images_of(app, number) == [new, *before]
    init_db(app)
    assert images_of(app, number) == [new, *before]

    assert send(owner, f"{path}/delete").status_code == 303
    assert images_of(app, number) == before
    with app.app_context():
        assert db.session.get(Image, new) is None


def test_picture_from_the_file_is_hidden_and_stays_so(app: Flask, owner: FlaskClient):
    number = id_of(app, "tidewater")
    first, second = images_of(app, number)
    send(owner, f"/internal/images/{first}/delete")
    init_db(app)
    assert images_of(app, number) == [second]
    form = f"/internal/projects/{number}"
    assert send(owner, f"/internal/images/{first}/show", form).status_code == 303
    assert images_of(app, number) == [first, second]


def test_files_of_a_picture_stay_while_another_row_shows_it(app: Flask, owner: FlaskClient):
    numbers = [id_of(app, slug) for slug in ("lantern", "night-shift")]
    data = picture(size=(77, 33))
    for number in numbers:
        upload(owner, number, data)
    (digest,) = {db_digest(app, images_of(app, number)[-1]) for number in numbers}
    visitor = app.test_client()
    for number, status in zip(numbers, (200, 404), strict=True):
        send(owner, f"/internal/images/{images_of(app, number)[-1]}/delete")
        with visitor.get(f"/media/{digest}-77.webp") as response:
            assert response.status_code == status


def db_digest(app: Flask, image_id: int) -> str:
    with app.app_context():
        return db.session.get(Image, image_id).digest


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "Please choose a picture.|not a JPEG"),
        (b"<svg onload='alert(1)'/>", "not a JPEG, PNG or WebP"),
        (picture("GIF"), "not a JPEG, PNG or WebP"),
        (picture("PNG", (300, 300))[:200], "damaged|not a JPEG"),
    ],
)
def test_upload_that_is_no_picture_is_refused(
    app: Flask, owner: FlaskClient, data: bytes, complaint: str
):
    number = id_of(app, "lantern")
    response = upload(owner, number, data)
    assert response.status_code == 400
    assert re.search(complaint, response.text)
    assert len(images_of(app, number)) == 1


def test_upload_without_a_description_is_refused(app: Flask, owner: FlaskClient):
    form = f"/internal/projects/{id_of(app, 'lantern')}"
    file = {"file": (io.BytesIO(picture()), "a.jpg")}
    response = send(owner, f"{form}/images", form, alt="", **file)
    assert response.status_code == 400
    assert "Please say what it shows." in response.text


def test_uploads_have_room_and_an_end(app: Flask, owner: FlaskClient):
    number = id_of(app, "lantern")
    # A file within the limit is read (and is not a picture); a larger one is not read.
    assert upload(owner, number, b"x" * 9_000_000).status_code == 400
    response = upload(owner, number, b"x" * 11_000_000)
    assert response.status_code == 413
    assert "Too large" in response.text


def test_stranger_has_no_room_for_uploads(app: Flask, client: FlaskClient):
    form = {"csrf_token": csrf_token(client), "file": (io.BytesIO(b"x" * 100_000), "a.jpg")}
    response = client.post(f"/internal/projects/{id_of(app, 'lantern')}/images", data=form)
    assert response.status_code == 413


def test_other_forms_of_the_owner_stay_small(owner: FlaskClient):
    response = send(owner, "/internal/projects/new", **{**FIELDS, "text": "x" * 200_000})
    assert response.status_code == 413


@pytest.mark.parametrize("number", ["0", "-1", "99999", "2147483647", "99999999999999999999", "x"])
def test_row_that_is_none_answers_404(owner: FlaskClient, number: str):
    for path in ("/internal/projects", "/internal/images"):
        assert owner.get(f"{path}/{number}").status_code == 404


def test_owner_deletes_a_message(app: Flask, owner: FlaskClient):
    leave_message(app.test_client(), body="Buy now")
    leave_message(app.test_client(), body="Kind words")
    assert "Buy now" in owner.get("/internal/messages").text
    with app.app_context():
        number = db.session.scalars(db.select(Message).filter_by(body="Buy now")).one().id
    path = f"/internal/messages/{number}/delete"
    assert send(owner, path, "/internal/messages").status_code == 303
    page = app.test_client().get("/messages").text
    assert "Buy now" not in page
    assert "Kind words" in page


def test_number_of_queries_of_the_list_does_not_grow(app: Flask, owner: FlaskClient):
    from test_pages import fill, queries_of

    for count in (1, 200):
        fill(app, count, 3)
        assert queries_of(app, owner, "/internal/") == 3
