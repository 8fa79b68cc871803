"""What a visitor sees."""

import re
from pathlib import Path

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient

from my_flask_webpage.extensions import db
from my_flask_webpage.models import Project


def test_front_page_lists_the_projects_in_order(client: FlaskClient):
    response = client.get("/")
    assert response.status_code == 200
    titles = re.findall(r'<h3><a href="https://example.org/[^"]+">([^<]+)</a></h3>', response.text)
    assert titles == ["Tidewater", "Paper Trail", "Lantern", "Field Notes"]
    assert "2019 – 2021" in response.text
    assert "Bird counts for a nature reserve" in response.text


def test_front_page_escapes_what_is_in_the_database(app: Flask, client: FlaskClient):
    with app.app_context():
        db.session.add(
            Project(slug="x", title="<b>x", period="", summary="<i>", link='"><u>', position=9)
        )
        db.session.commit()
    page = client.get("/").text
    assert "&lt;b&gt;x" in page
    assert not re.search("<[biu]>", page)


def test_front_page_sets_no_cookie(client: FlaskClient):
    assert "Set-Cookie" not in client.get("/").headers


def test_pages_without_tables_answer_a_readable_503(empty_app: Flask):
    client = empty_app.test_client()
    for path in ("/", "/messages"):
        response = client.get(path)
        assert response.status_code == 503
        assert "Back in a moment" in response.text
        assert response.headers["Retry-After"]
        assert "Traceback" not in response.text


def test_unknown_page_answers_a_readable_404(client: FlaskClient):
    response = client.get("/no-such-page")
    assert response.status_code == 404
    assert "There is nothing here" in response.text


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
    assert "Something broke" in response.text
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


def test_static_file_without_a_fingerprint_is_not_kept_for_long(client: FlaskClient):
    with client.get("/static/style.css") as response:
        assert "immutable" not in response.headers["Cache-Control"]


def test_pages_hold_no_inline_script_or_style(client: FlaskClient):
    for path in ("/", "/messages", "/no-such-page"):
        page = client.get(path).text
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=", page)
