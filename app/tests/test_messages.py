"""Leaving a message."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from conftest import MakeApp, csrf_token, leave_message
from flask import Flask
from flask.testing import FlaskClient

from my_flask_webpage.extensions import db
from my_flask_webpage.messages import WINDOW
from my_flask_webpage.models import BODY_MAX_LENGTH, NAME_MAX_LENGTH, Message, MessageSender


def stored(app: Flask) -> list[Message]:
    with app.app_context():
        return list(db.session.scalars(db.select(Message).order_by(Message.id)))


def test_valid_message_is_kept_and_shown_after_a_redirect(app: Flask, client: FlaskClient):
    response = leave_message(client, name=" Ada ", body="Hello,\r\nMara!")
    assert response.status_code == 303
    page = client.get(response.headers["Location"]).text
    assert "Thank you." in page
    assert "<strong>Ada</strong>" in page
    assert "Hello,\nMara!" in page
    assert len(stored(app)) == 1


def test_each_message_has_its_own_id_and_a_moment_in_utc(app: Flask, client: FlaskClient):
    locations = {leave_message(client).headers["Location"] for _ in range(3)}
    messages = stored(app)
    assert locations == {f"/messages#message-{message.id}" for message in messages}
    assert len(locations) == 3
    for message in messages:
        assert message.created_at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - message.created_at) < timedelta(minutes=1)


def test_newest_messages_come_first_and_old_ones_leave_the_page(make_app: MakeApp):
    client = make_app(MESSAGES_PER_HOUR=30).test_client()
    for number in range(22):
        leave_message(client, body=f"number {number:02}")
    page = client.get("/messages").text
    assert page.index("number 21") < page.index("number 20")
    assert "number 01" not in page


@pytest.mark.parametrize(
    ("name", "body", "complaint"),
    [
        ("", "Hello", "Please enter a name."),
        ("Ada", "", "Please write a message."),
        ("   ", "Hello", "Please enter a name."),
        ("Ada", " \r\n ", "Please write a message."),
        ("x" * (NAME_MAX_LENGTH + 1), "Hello", "A name can have at most 80 characters."),
        ("Ada", "x" * (BODY_MAX_LENGTH + 1), "A message can have at most 1000 characters."),
        ("Ada", "nul \x00 byte", "a character that cannot be stored"),
    ],
)
def test_unusable_message_is_refused_readably(
    app: Flask, client: FlaskClient, name: str, body: str, complaint: str
):
    response = leave_message(client, name=name, body=body)
    assert response.status_code == 400
    assert complaint in response.text
    assert stored(app) == []


def test_refused_message_stays_in_the_form(client: FlaskClient):
    page = leave_message(client, name="", body="What I wrote").text
    assert "What I wrote</textarea>" in page


def test_longest_message_fits_with_its_line_breaks_counted_once(app: Flask, client: FlaskClient):
    body = "ä\r\n" * (BODY_MAX_LENGTH // 2 - 1) + "ää"
    assert leave_message(client, name="é" * NAME_MAX_LENGTH, body=body).status_code == 303
    assert len(stored(app)[0].body) == BODY_MAX_LENGTH


def test_message_is_escaped(client: FlaskClient):
    leave_message(client, name="<b>", body="<script>alert(1)</script>")
    page = client.get("/messages").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page


def test_refused_message_is_escaped(client: FlaskClient):
    page = leave_message(client, name='"><script>', body="</textarea><script>" * 99).text
    assert "<script" not in page


@pytest.mark.parametrize("token", [None, "", "made-up"])
def test_message_without_a_valid_token_is_refused(app: Flask, client: FlaskClient, token):
    csrf_token(client)
    form = {"name": "Ada", "body": "Hello"} | ({} if token is None else {"csrf_token": token})
    response = client.post("/messages", data=form)
    assert response.status_code == 400
    assert "The form has expired" in response.text
    assert stored(app) == []


def test_token_of_another_visitor_is_refused(app: Flask, client: FlaskClient):
    token = csrf_token(client)
    stranger = app.test_client()
    csrf_token(stranger)
    form = {"csrf_token": token, "name": "Ada", "body": "Hello"}
    assert stranger.post("/messages", data=form).status_code == 400


@pytest.mark.parametrize("site", ["https://example.org", "http://localhost:8000"])
@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}])
def test_form_works_with_and_without_https(client: FlaskClient, site: str, headers: dict):
    assert leave_message(client, base_url=site, headers=headers).status_code == 303


def test_form_works_behind_a_proxy_that_drops_the_port_from_the_host(client: FlaskClient):
    headers = {"Referer": "https://example.org:8443/messages", "Sec-Fetch-Site": "same-origin"}
    response = leave_message(client, base_url="https://example.org", headers=headers)
    assert response.status_code == 303


@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
def test_form_of_another_site_is_refused(app: Flask, client: FlaskClient, origin: str):
    response = leave_message(client, headers={"Sec-Fetch-Site": origin})
    assert response.status_code == 403
    assert "only from pages of this site" in response.text
    assert stored(app) == []


def test_message_larger_than_the_limit_answers_a_readable_413(client: FlaskClient):
    response = leave_message(client, body="x" * 100_000)
    assert response.status_code == 413
    assert "Too large" in response.text


def sent_from(address: str) -> dict[str, object]:
    return {"environ_base": {"REMOTE_ADDR": address}}


def test_one_client_s_messages_have_a_limit(app: Flask, client: FlaskClient):
    most = app.config["MESSAGES_PER_HOUR"]
    statuses = [leave_message(client).status_code for _ in range(most + 3)]
    assert statuses == [303] * most + [429] * 3
    assert len(stored(app)) == most
    refused = leave_message(client, body="What I wrote")
    assert "What I wrote</textarea>" in refused.text
    assert "send it\n  again in 60 minutes" in refused.text
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    assert leave_message(client, **sent_from("192.0.2.7")).status_code == 303


def test_a_network_of_ipv6_is_one_client(make_app: MakeApp):
    client = make_app(MESSAGES_PER_HOUR=2).test_client()
    near = [f"2001:db8:1:2::{n}" for n in range(3)]
    statuses = [leave_message(client, **sent_from(a)).status_code for a in near]
    assert statuses == [303, 303, 429]
    assert leave_message(client, **sent_from("2001:db8:1:3::1")).status_code == 303


def test_all_clients_together_have_a_limit(make_app: MakeApp):
    app = make_app(MESSAGES_PER_HOUR_IN_ALL=5)
    client = app.test_client()
    statuses = [leave_message(client, **sent_from(f"192.0.2.{n}")).status_code for n in range(7)]
    assert statuses == [303] * 5 + [429] * 2
    assert len(stored(app)) == 5


def test_a_limit_holds_for_many_at_once(make_app: MakeApp):
    app = make_app(MESSAGES_PER_HOUR=3)

    def leave(_: int) -> int:
        return leave_message(app.test_client()).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(leave, range(8)))
    assert statuses == [303] * 3 + [429] * 5
    assert len(stored(app)) == 3


def test_messages_are_taken_again_after_the_hour_and_the_sender_is_forgotten(make_app: MakeApp):
    app = make_app(MESSAGES_PER_HOUR=1)
    client = app.test_client()
    assert [leave_message(client).status_code for _ in range(2)] == [303, 429]
    with app.app_context():
        (sender,) = db.session.scalars(db.select(MessageSender)).all()
        assert "127.0.0.1" not in sender.sender
        sender.at -= WINDOW
        db.session.commit()
    assert leave_message(client).status_code == 303
    with app.app_context():
        assert db.session.scalar(db.select(db.func.count()).select_from(MessageSender)) == 1


def test_a_refused_form_does_not_count(make_app: MakeApp):
    client = make_app(MESSAGES_PER_HOUR=1).test_client()
    assert leave_message(client, name="").status_code == 400
    assert leave_message(client).status_code == 303
