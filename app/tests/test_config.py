"""Settings: valid and invalid values, and the error messages."""

import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from flask import request

from my_flask_webpage import create_app
from my_flask_webpage.config import ConfigError, load_config
from my_flask_webpage.extensions import db

KEY = secrets.token_urlsafe(48)
DATABASE = "postgresql://user:hidden@db/app"


def production(**environ: str) -> dict[str, str]:
    return {"APP_ENV": "production", "SECRET_KEY": KEY, "DATABASE_URL": DATABASE, **environ}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "   ",
        "short-but-random-3f9a",
        KEY[:31],
        "a" * 64,
        "change-me-change-me-change-me-change-me",
        "your-secret-key-goes-here-0123456789abcdef",
        load_config({"APP_ENV": "development"})["SECRET_KEY"],
    ],
)
def test_unsafe_secret_key_is_refused_with_advice_and_without_repeating_it(key: str):
    with pytest.raises(ConfigError, match="token_urlsafe") as caught:
        load_config(production(SECRET_KEY=key))
    if key.strip():
        assert key not in str(caught.value)


@pytest.mark.parametrize("make", [secrets.token_urlsafe, secrets.token_hex])
def test_random_secret_keys_are_accepted(make):
    for _ in range(200):
        load_config(production(SECRET_KEY=make(32)))


def test_without_settings_the_rules_of_production_hold():
    with pytest.raises(ConfigError, match="SECRET_KEY is missing"):
        load_config({})


def test_production_needs_a_database():
    with pytest.raises(ConfigError, match="DATABASE_URL is missing"):
        load_config(production(DATABASE_URL=""))


def test_unknown_environment_is_refused():
    with pytest.raises(ConfigError, match="APP_ENV"):
        load_config({"APP_ENV": "prod"})


def test_development_needs_no_settings():
    config = load_config({"APP_ENV": "development"})
    assert config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite:///")
    assert not config["SESSION_COOKIE_SECURE"]


def test_testing_keeps_away_from_the_disk():
    config = load_config({"APP_ENV": "testing"})
    assert config["TESTING"]
    assert config["SQLALCHEMY_DATABASE_URI"] == "sqlite://"


def test_production_keeps_pictures_where_a_volume_is_mounted():
    assert load_config(production())["MEDIA_DIR"] == "/data/media"
    assert load_config(production(MEDIA_DIR="/srv/media"))["MEDIA_DIR"] == "/srv/media"


def test_secrets_come_from_files_first(tmp_path: Path):
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "url").write_text("postgres://u:p@file/app\n")
    environ = production(
        SECRET_KEY="short",
        SECRET_KEY_FILE=str(tmp_path / "key"),
        DATABASE_URL_FILE=str(tmp_path / "url"),
    )
    config = load_config(environ)
    assert config["SECRET_KEY"] == KEY
    assert config["SQLALCHEMY_DATABASE_URI"] == "postgresql+psycopg2://u:p@file/app"


def test_secret_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"SECRET_KEY_FILE: cannot read .*No such file"):
        load_config(production(SECRET_KEY_FILE=str(tmp_path / "absent")))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_postgres_addresses_get_the_installed_driver(scheme: str):
    config = load_config(production(DATABASE_URL=f"{scheme}://u:p%40@db/app?sslmode=require"))
    assert (
        config["SQLALCHEMY_DATABASE_URI"] == "postgresql+psycopg2://u:p%40@db/app?sslmode=require"
    )


def test_broken_database_address_is_refused_without_repeating_it():
    with pytest.raises(ConfigError, match="DATABASE_URL cannot be parsed") as caught:
        load_config(production(DATABASE_URL="postgres://u:hidden@db:port/app"))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("value", ["-1", "one", "1.5", "²"])
def test_number_that_is_none_is_refused(value: str):
    with pytest.raises(ConfigError, match="TRUSTED_PROXY_HOPS"):
        load_config(production(TRUSTED_PROXY_HOPS=value))


def test_server_refuses_to_start_with_one_readable_line():
    environ = {"PATH": os.environ["PATH"]}
    result = subprocess.run(
        [sys.executable, "-c", "import my_flask_webpage"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("my_flask_webpage: SECRET_KEY is missing.")
    assert result.stderr.count("\n") == 1


SPOOFED = {
    "X-Forwarded-For": "192.0.2.66",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
}


def seen(hops: int, headers: dict[str, str]) -> tuple[str | None, str, str]:
    app = create_app({"TESTING": True, "TRUSTED_PROXY_HOPS": hops})
    with app.test_client() as client:
        client.get("/healthz", headers=headers)
        return request.remote_addr, request.scheme, request.host


def test_forwarded_headers_are_ignored_without_a_trusted_proxy():
    assert seen(0, SPOOFED) == ("127.0.0.1", "http", "localhost")


def test_forwarded_headers_of_one_trusted_proxy_are_used():
    assert seen(1, SPOOFED) == ("192.0.2.66", "https", "evil.example")


def test_address_that_a_client_put_before_that_of_the_proxy_is_ignored():
    headers = {"X-Forwarded-For": "192.0.2.66, 198.51.100.7"}
    assert seen(1, headers)[0] == "198.51.100.7"


def test_production_builds_without_writing_to_the_instance_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in production(INSTANCE_PATH=str(tmp_path / "instance")).items():
        monkeypatch.setenv(name, value)
    app = create_app()
    assert app.instance_path == str(tmp_path / "instance")
    assert not Path(app.instance_path).exists()
    assert app.config["SESSION_COOKIE_SECURE"]


def test_each_process_of_uwsgi_opens_connections_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """Call the hook as uWSGI does after a fork; a real fork would share the test's sockets."""
    hooks = []
    decorators = ModuleType("uwsgidecorators")
    decorators.postfork = hooks.append
    monkeypatch.setitem(sys.modules, "uwsgidecorators", decorators)
    app = create_app({"SQLALCHEMY_DATABASE_URI": "sqlite:///:memory:"})
    with app.app_context():
        pool = db.engine.pool
        hooks[0]()
        assert db.engine.pool is not pool
