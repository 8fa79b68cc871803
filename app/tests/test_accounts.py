"""Login, logout, and the commands that make accounts."""

import ipaddress
import os
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from conftest import EMAIL, PASSWORD, MakeApp, build, csrf_token, log_in, send
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import TooManyRequests

from my_flask_webpage import accounts
from my_flask_webpage.accounts import ATTEMPTS_WINDOW, client_network, count_attempt, safe_target
from my_flask_webpage.extensions import db
from my_flask_webpage.models import LoginAttempt, User


def test_owner_gets_in_and_out(client: FlaskClient):
    assert client.get("/internal/").status_code == 302
    response = log_in(client)
    assert response.status_code == 303
    assert response.headers["Location"] == "/internal/"
    assert client.get("/internal/").status_code == 200
    assert send(client, "/logout", "/internal/").status_code == 303
    assert client.get("/internal/").status_code == 302


def test_a_copy_of_the_cookie_is_void_after_the_logout(app: Flask, client: FlaskClient):
    log_in(client)
    copied = client.get_cookie("session")
    thief = app.test_client()
    thief.set_cookie("session", copied.value)
    # Negative control.
    assert thief.get("/internal/").status_code == 200
    send(client, "/logout", "/internal/")
    thief.set_cookie("session", copied.value)
    assert thief.get("/internal/").status_code == 302
    assert log_in(client).status_code == 303


@pytest.mark.parametrize(
    ("email", "password"),
    [
        (EMAIL, "wrong"),
        (EMAIL, ""),
        (EMAIL, PASSWORD + " "),
        (EMAIL, PASSWORD.upper()),
        ("nobody@example.org", PASSWORD),
        ("", ""),
        ("nul\x00@example.org", PASSWORD),
        ("x" * 10_000, "x" * 10_000),
        ("' OR 1=1 --", "' OR 1=1 --"),
    ],
)
def test_everybody_else_gets_one_and_the_same_complaint(
    client: FlaskClient, email: str, password: str
):
    response = log_in(client, password, email)
    assert response.status_code == 400
    assert "E-mail or password is wrong." in response.text
    assert client.get("/internal/").status_code == 302


def test_address_is_taken_in_any_case(client: FlaskClient):
    assert log_in(client, email=f" {EMAIL.upper()} ").status_code == 303


def test_unknown_user_costs_as_much_as_a_known_one(app: Flask, monkeypatch: pytest.MonkeyPatch):
    """Hashing takes nearly all of the time; it runs once in each case, with the same settings."""
    verified = []

    class Watched(type(accounts.hasher)):
        def verify(self, stored: str, password: str) -> bool:
            verified.append(stored.rsplit("$", 2)[0])
            return super().verify(stored, password)

    watched = Watched(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    monkeypatch.setattr(accounts, "hasher", watched)
    with app.test_request_context():
        assert accounts.check_password(EMAIL, "wrong") is None
        assert accounts.check_password("nobody@example.org", "wrong") is None
        assert accounts.check_password("\x00", "wrong") is None
        assert accounts.check_password(EMAIL, PASSWORD) is not None
    assert verified == ["$argon2id$v=19$m=19456,t=2,p=1"] * 4


def test_login_without_a_valid_token_is_refused(client: FlaskClient):
    form = {"email": EMAIL, "password": PASSWORD, "csrf_token": "made-up"}
    csrf_token(client, "/login")
    assert client.post("/login", data=form).status_code == 400
    assert client.get("/internal/").status_code == 302


def test_session_of_before_the_login_is_not_carried_over(client: FlaskClient):
    token = csrf_token(client, "/login")
    assert log_in(client).status_code == 303
    form = {"csrf_token": token, "direction": "up"}
    assert client.post("/internal/projects/1/move", data=form).status_code == 400


def test_logout_needs_a_form_of_this_site(owner: FlaskClient):
    assert owner.get("/logout").status_code == 405
    assert owner.post("/logout").status_code == 400
    assert owner.get("/internal/").status_code == 200


def test_who_is_in_is_sent_on_from_the_login(owner: FlaskClient):
    assert owner.get("/login?next=/messages").headers["Location"] == "/messages"


# After the login

GOOD = [
    "/", "/projects/", "/projects/tidewater", "/messages", "/internal/", "/internal/messages",
    "/internal/projects/new?a=b&c=%2F", "/internal/projects/1",
]  # fmt: skip
EVIL = [
    "", "https://evil.example", "//evil.example", "///evil.example", "/\\evil.example",
    "\\\\evil.example", "/\t/evil.example", "/%09/evil.example", "http:/evil.example",
    "javascript:1", "//[", "http://[::1", "//evil.example@localhost",
    "/internal/\r\nSet-Cookie: a=b", "/internal/\x00", "evil.example", ".", "..", "/no-such-page",
    "/logout", "/internal", "/projects", "/é", "\ud800", "/login", "/static/style.css",
    "/" + "a" * 5000, "/internal/?" + "a" * 5000, "?next=/", "#", "/;//evil",
    "https:///internal/", "/internal/..//evil.example", "//localhost/internal/", "/:80",
    "/@evil.example",
]  # fmt: skip


def test_login_leads_to_the_page_that_was_asked_for(app: Flask):
    for number, target in enumerate(GOOD):
        client = app.test_client()
        client.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
        response = log_in(client, query=f"?next={quote(target, safe='')}")
        assert response.status_code == 303
        assert response.headers["Location"] == target


def test_login_leads_nowhere_else(owner: FlaskClient):
    for target in EVIL:
        query = quote(target.encode("utf-8", "surrogatepass"), safe="")
        response = owner.get(f"/login?next={query}")
        assert response.status_code == 303, target
        assert response.headers["Location"] == "/internal/", target


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text(st.sampled_from("/\\:@#?%[]. \t\r\n;&=httpsxevil0-")),
        st.tuples(st.sampled_from([*GOOD, *EVIL]), st.text()).map("".join),
        st.binary().map(lambda data: data.decode("latin-1")),
    )
)
def test_any_target_gives_a_redirect_within_the_site(owner: FlaskClient, target: str):
    query = quote(target.encode("utf-8", "surrogatepass"), safe="")
    response = owner.get(f"/login?next={query}")
    assert response.status_code == 303
    location = response.headers["Location"]
    parts = urlsplit(location)
    assert (parts.scheme, parts.netloc) == ("", "")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert owner.get(location).status_code == 200
    with owner.application.test_request_context():
        assert safe_target(target).startswith("/")


def test_several_targets_or_odd_names_do_not_matter(owner: FlaskClient):
    for query in ("next=//evil.example&next=/messages", "next[]=/messages", "next", "next=%ff%fe"):
        response = owner.get(f"/login?{query}")
        assert response.status_code == 303
        assert response.headers["Location"] == "/internal/"


def test_page_that_needs_a_login_comes_back_after_it(client: FlaskClient):
    response = client.get("/internal/messages")
    assert response.status_code == 302
    login = response.headers["Location"]
    assert login == "/login?next=%2Finternal%2Fmessages"
    response = log_in(client, query=login.removeprefix("/login"))
    assert response.headers["Location"] == "/internal/messages"


# How often


def attempt(client: FlaskClient, address: str = "192.0.2.1", password: str = "wrong") -> int:
    token = csrf_token(client, "/login")
    form = {"csrf_token": token, "email": EMAIL, "password": password}
    origin = {"REMOTE_ADDR": address}
    return client.post("/login", data=form, environ_overrides=origin).status_code


def test_sixth_attempt_within_a_minute_is_refused(app: Flask):
    client = app.test_client()
    assert [attempt(client) for _ in range(6)] == [400] * 5 + [429]
    # The right password is refused as well, also without the old cookie.
    assert attempt(app.test_client(), password=PASSWORD) == 429
    # Another address is not affected.
    assert attempt(client, "192.0.2.2") == 400
    with app.app_context():
        for row in db.session.scalars(db.select(LoginAttempt)):
            row.at -= ATTEMPTS_WINDOW
        db.session.commit()
    assert attempt(client, password=PASSWORD) == 303
    with app.app_context():  # old attempts are deleted
        assert db.session.scalar(db.select(db.func.count()).select_from(LoginAttempt)) == 1


def test_refusal_says_how_long_to_wait(app: Flask):
    client = app.test_client()
    for _ in range(5):
        attempt(client, "127.0.0.1")
    response = log_in(client)
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert "Too many requests" in response.text


def test_limit_holds_for_several_processes_at_once(make_app: MakeApp):
    """Each application has its own engine, like each process of uWSGI."""
    apps = [make_app() for _ in range(4)]

    def once(app: Flask) -> bool:
        with app.test_request_context():
            try:
                count_attempt("192.0.2.3")
            except TooManyRequests:
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(once, apps * 5)) == 5


def test_limit_slides(app: Flask, monkeypatch: pytest.MonkeyPatch):
    now = accounts.utc_now()
    admitted = []
    for second in range(0, 180, 4):
        monkeypatch.setattr(accounts, "utc_now", lambda: now + timedelta(seconds=second))  # noqa: B023
        with app.test_request_context():
            try:
                count_attempt("192.0.2.4")
                admitted.append(second)
            except TooManyRequests:
                pass
    for start in range(120):
        assert sum(start <= second < start + 60 for second in admitted) <= 5
    assert len(admitted) == 15


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1:2:3", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", "unknown"),
        (None, "unknown"),
        ("not an address", "unknown"),
    ],
)
def test_attempts_are_counted_for_who_can_change_his_address_at_will(address, network):
    assert client_network(address) == network


@given(st.ip_addresses())
def test_every_address_has_a_network_that_fits_its_column(address):
    assert 0 < len(client_network(str(address))) <= 64
    assert ipaddress.ip_address(client_network(str(address)).removesuffix("/64"))


# Accounts


def invoke(app: Flask, *arguments: str, stdin: str | None = None):
    return app.test_cli_runner().invoke(args=["user", *arguments], input=stdin)


def test_account_is_made_from_a_file(app: Flask, tmp_path: Path):
    (tmp_path / "password").write_text("twelve chars and more\n")
    result = invoke(app, "add", "New@Example.org", "--password-file", str(tmp_path / "password"))
    assert result.exit_code == 0, result.output
    assert log_in(app.test_client(), "twelve chars and more", "new@example.org").status_code == 303
    with app.app_context():
        user = db.session.scalars(db.select(User).filter_by(email="new@example.org")).one()
        assert user.password_hash.startswith("$argon2id$")
    assert "new@example.org" in invoke(app, "list").output


def test_account_is_made_from_standard_input(app: Flask):
    result = invoke(app, "add", "a@b.c", "--password-file", "-", stdin="twelve chars and more")
    assert result.exit_code == 0, result.output
    assert log_in(app.test_client(), "twelve chars and more", "a@b.c").status_code == 303


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_password_is_asked_for_twice_and_not_shown(server, template: str, media_dir: Path):
    import pty

    url = server.create(template)
    master, slave = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "APP_ENV": "development", "DATABASE_URL": url}
    command = [sys.executable, "-m", "flask", "--app", "my_flask_webpage", "user", "add", "a@b.c"]
    with subprocess.Popen(
        command, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ):
        os.close(slave)
        shown = b""
        # A prompt discards earlier input, so each answer waits for its prompt.
        for awaited in (b"Password", b"Repeat", b"can log in"):
            while awaited not in shown:
                assert select.select([master], [], [], 20)[0], shown
                shown += os.read(master, 1000)
            if awaited != b"can log in":
                os.write(master, b"twelve chars and more\n")
    os.close(master)
    assert b"twelve" not in shown
    app = build(url, media_dir)
    assert log_in(app.test_client(), "twelve chars and more", "a@b.c").status_code == 303
    with app.app_context():
        db.engine.dispose()
    server.drop(url)


@pytest.mark.parametrize(
    ("email", "password", "complaint"),
    [
        (EMAIL, "twelve chars and more", "already has an account"),
        ("nowhere", "twelve chars and more", "not a valid e-mail address"),
        ("a@b.c", "short", "at least 12 characters"),
        ("a@b.c", "", "at least 12 characters"),
    ],
)
def test_account_that_cannot_be_made_is_explained(app: Flask, email, password, complaint):
    result = invoke(app, "add", email, "--password-file", "-", stdin=password)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert password not in result.output or not password


def test_without_a_terminal_nobody_is_asked(app: Flask):
    result = invoke(app, "add", "a@b.c", stdin="")
    assert result.exit_code == 1
    assert "--password-file" in result.stderr


def test_new_password_ends_all_sessions(app: Flask, owner: FlaskClient):
    result = invoke(app, "password", EMAIL, "--password-file", "-", stdin="another one, longer")
    assert result.exit_code == 0, result.output
    assert owner.get("/internal/").status_code == 302
    assert log_in(app.test_client()).status_code == 400
    assert log_in(app.test_client(), "another one, longer").status_code == 303


def test_removed_account_is_out_at_once(app: Flask, owner: FlaskClient):
    assert invoke(app, "remove", EMAIL).exit_code == 0
    assert owner.get("/internal/").status_code == 302
    assert invoke(app, "remove", EMAIL).exit_code == 1
