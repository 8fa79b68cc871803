"""What machines ask."""

import logging
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from my_flask_webpage import access_log, create_app
from my_flask_webpage.extensions import db

NOWHERE = "postgresql+psycopg2://nobody:hidden@127.0.0.1:1/none"


def test_ready_when_the_tables_are_there(client: FlaskClient):
    assert client.get("/readyz").status_code == 200


def test_not_ready_without_tables(empty_app: Flask):
    response = empty_app.test_client().get("/readyz")
    assert response.status_code == 503
    assert "init_db" in response.json["reason"]


def test_not_ready_when_a_column_is_missing(app: Flask, client: FlaskClient):
    with app.app_context():
        db.session.execute(db.text("ALTER TABLE project DROP COLUMN link"))
        db.session.commit()
    assert client.get("/readyz").status_code == 503


def test_process_is_healthy_while_the_database_is_away():
    client = create_app({"TESTING": True, "SQLALCHEMY_DATABASE_URI": NOWHERE}).test_client()
    assert client.get("/healthz").status_code == 200
    for path in ("/readyz", "/", "/messages"):
        response = client.get(path)
        assert response.status_code == 503
        for secret in ("hidden", "nobody", "127.0.0.1"):
            assert secret not in response.text


@pytest.fixture
def access_lines() -> Iterator[list[str]]:
    """Lines of the access log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    access_log.logger.addHandler(handler)
    yield lines
    access_log.logger.removeHandler(handler)


def test_each_request_is_logged_with_the_id_in_its_response(
    client: FlaskClient, access_lines: list[str]
):
    ids = [client.get("/healthz").headers["X-Request-ID"] for _ in range(2)]
    assert ids[0] != ids[1]
    for line, request_id in zip(access_lines, ids, strict=True):
        assert line.startswith("127.0.0.1 GET /healthz 200 ")
        assert line.endswith(f"id={request_id}")


def test_access_log_cannot_be_forged_and_leaves_out_the_query(
    client: FlaskClient, access_lines: list[str]
):
    client.get("/x%0A1.2.3.4 GET / 200?token=private")
    assert len(access_lines) == 1
    assert "\n" not in access_lines[0]
    assert "private" not in access_lines[0]


def test_building_the_app_opens_no_connection(empty_app: Flask):
    with empty_app.app_context():
        assert db.engine.pool.checkedin() + db.engine.pool.checkedout() == 0
