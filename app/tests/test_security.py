"""Headers and cookies, and the rules of Mozilla's HTTP Observatory."""

from secrets import token_urlsafe

from conftest import MakeApp, log_in
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from my_flask_webpage.config import load_config

PATHS = [
    "/", "/projects/", "/projects/tidewater", "/imprint", "/privacy", "/messages", "/login",
    "/robots.txt", "/sitemap.xml", "/healthz", "/no-such-page", "/static/style.css",
]  # fmt: skip


def test_every_response_carries_the_security_headers(client: FlaskClient):
    for path in PATHS:
        with client.get(path) as response:
            check_headers(response.headers)


def check_headers(headers: Headers) -> None:
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    # The site has no scripts, so the policy allows none.
    assert "script-src" not in policy
    assert set(policy.values()) == {"'none'", "'self'"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in headers


def test_session_cookie_is_kept_from_scripts_other_sites_and_plain_http(make_app: MakeApp):
    names = ("SESSION_COOKIE_NAME", "SESSION_COOKIE_SECURE")
    settings = load_config({"SECRET_KEY": token_urlsafe(48), "DATABASE_URL": "sqlite://"})
    client = make_app(**{name: settings[name] for name in names}).test_client()
    cookie = client.get("/messages", base_url="https://localhost").headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie


def test_owner_s_session_ends_after_half_a_day(client: FlaskClient):
    cookie = log_in(client).headers["Set-Cookie"]
    assert "Expires=" in cookie
    assert client.application.permanent_session_lifetime.total_seconds() == 12 * 60 * 60


PUBLIC = ["/", "/projects/", "/projects/tidewater", "/imprint", "/privacy", "/sitemap.xml"]


def test_public_pages_may_be_shared_and_are_asked_for_again_cheaply(client: FlaskClient):
    for path in PUBLIC:
        check_caching(client, path)


def check_caching(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.headers["Cache-Control"] == "public, max-age=0, s-maxage=60"
    assert "Cookie" in response.headers["Vary"]
    assert "Set-Cookie" not in response.headers
    again = client.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""
    assert "Cache-Control" in again.headers
    # nginx makes the ETag of a compressed response a weak one.
    weak = client.get(path, headers={"If-None-Match": f"W/{response.headers['ETag']}"})
    assert weak.status_code == 304
    # Negative control.
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_pages_of_the_owner_are_never_kept(owner: FlaskClient):
    for path in [*PUBLIC, "/messages", "/internal/"]:
        response = owner.get(path)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "private, no-store"
        assert "ETag" not in response.headers


def test_pages_with_a_form_or_an_error_are_kept_out_of_shared_caches(client: FlaskClient):
    for path in ("/messages", "/login", "/no-such-page", "/internal/"):
        assert "private" in client.get(path).headers["Cache-Control"]


def test_what_one_visitor_gets_is_not_made_for_another(client: FlaskClient, owner: FlaskClient):
    """A shared cache keys by cookie, and stores no page of a logged-in owner."""
    assert "Log out" in owner.get("/").text
    assert "Log out" not in client.get("/").text
    assert "csrf" not in client.get("/").text


def test_health_is_never_cached(client: FlaskClient):
    for path in ("/healthz", "/readyz"):
        assert client.get(path).headers["Cache-Control"] == "no-store"
