"""Headers and cookies."""

import pytest
from conftest import MakeApp, csrf_token
from flask.testing import FlaskClient

from my_flask_webpage.setup.init_db import init_db


@pytest.mark.parametrize(
    "path", ["/", "/messages", "/healthz", "/no-such-page", "/static/style.css"]
)
def test_every_response_carries_the_security_headers(client: FlaskClient, path: str):
    with client.get(path) as response:
        headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"


def test_session_cookie_is_kept_from_scripts_and_other_sites(make_app: MakeApp):
    client = make_app(SESSION_COOKIE_SECURE=True).test_client()
    init_db(client.application)
    response = client.get("/messages")
    cookie = response.headers["Set-Cookie"]
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax"):
        assert attribute in cookie


def test_pages_are_kept_out_of_shared_caches(client: FlaskClient):
    assert csrf_token(client)
    for path in ("/", "/messages"):
        assert "private" in client.get(path).headers["Cache-Control"]
