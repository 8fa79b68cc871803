"""Health checks and logs."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeApp, build
from flask import Flask
from flask.testing import FlaskClient

from my_flask_webpage import logs
from my_flask_webpage.extensions import db

NOWHERE = "postgresql+psycopg2://nobody:hidden@127.0.0.1:1/none"


def test_ready_when_the_schema_is_at_its_head(client: FlaskClient):
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
    client = build(NOWHERE, Path("nowhere")).test_client()
    assert client.get("/healthz").status_code == 200
    for path in ("/readyz", "/", "/messages"):
        response = client.get(path)
        assert response.status_code == 503
        for secret in ("hidden", "nobody", "127.0.0.1"):
            assert secret not in response.text


def test_owner_sees_the_outage_and_no_500(owner: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    def away(*arguments, **options):
        raise db.exc.OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(db.session, "scalar", away)
    monkeypatch.setattr(db.session, "scalars", away)
    monkeypatch.setattr("my_flask_webpage.database_errors._reason", lambda error: "away")
    assert owner.get("/").status_code == 503


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], make_app: MakeApp) -> Iterator[list[dict]]:
    """Log lines on stdout of an application with production settings."""
    client = make_app(APP_ENV="production", TESTING=False).test_client()

    def read() -> list[dict]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return client, read


def test_each_request_is_a_line_with_the_id_in_its_response(lines):
    client, read = lines
    ids = [client.get("/healthz?a=b").headers["X-Request-ID"] for _ in range(2)]
    assert ids[0] != ids[1]
    for line, request_id in zip(read(), ids, strict=True):
        assert line["request_id"] == request_id
        assert line["remote_addr"] == "127.0.0.1"
        assert (line["method"], line["path"], line["status"]) == ("GET", "/healthz?a=b", 200)
        assert line["duration_ms"] >= 0
        assert line["time"].endswith("+00:00")


def test_what_the_app_logs_carries_the_same_id(lines):
    client, read = lines
    client.application.add_url_rule("/bug", view_func=lambda: {}["bug"])
    response = client.get("/bug")
    assert response.status_code == 500
    bug, access = read()
    assert bug["level"] == "error"
    assert "KeyError: 'bug'" in bug["exception"]
    assert bug["request_id"] == access["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("environment", ["production", "development"])
def test_log_cannot_be_forged(
    make_app: MakeApp, capsys: pytest.CaptureFixture[str], environment: str
):
    client = make_app(APP_ENV=environment).test_client()
    client.get("/x%0A1.2.3.4 GET / 200?q=%0A\r\nforged")
    assert capsys.readouterr().out.count("\n") == 1


def test_building_the_app_opens_no_connection(empty_app: Flask):
    with empty_app.app_context():
        assert db.engine.pool.checkedin() + db.engine.pool.checkedout() == 0


def test_building_the_app_twice_logs_once(make_app: MakeApp, capsys: pytest.CaptureFixture[str]):
    make_app()
    make_app().test_client().get("/healthz")
    assert capsys.readouterr().out.count("/healthz") == 1
    handlers = logging.getLogger("my_flask_webpage").handlers
    assert len([handler for handler in handlers if isinstance(handler, logs.Stdout)]) == 1
