"""What apps reach outside their own network: networks of a release, preflight, and advice."""

import json
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml
from checks.outside import Target, check_outside, check_reached, targets
from checks.outside_advice import outside_advice
from module_utils.app import App, has_postgres, required_secrets
from preflight_host import reach

from app import release_advice

ROLE = Path(__file__).parents[2] / "roles/app"
URL = "postgresql://shop:p%40ss@db.example.org:5432/shop"


def entry(**keys: Any) -> dict[str, Any]:
    return {"name": "shop", "domains": ["shop.test"], "database": "none", **keys}


def problems(given: Any = None, reach: Any = None, isolated: bool = True, **keys: Any) -> list[str]:
    found = check_outside("apps.shop", entry(**keys), given or {}, reach or [], isolated)
    return [("warning: " if f.warning else "") + str(f) for f in found]


# -- networks -------------------------------------------------------------------------------------


def release(**keys: Any) -> dict[str, Any]:
    """Write the compose file of a release."""
    app = App.from_entry(entry(workers=[{"name": "mail", "command": "x"}], memory_mb=64, **keys))
    loader = jinja2.FileSystemLoader(ROLE / "templates/release")
    environment = jinja2.Environment(loader=loader, trim_blocks=True)  # noqa: S701  # as Ansible
    environment.filters["to_json"] = json.dumps
    text = environment.get_template("compose.yml.j2").render(
        app_entry=app.entry(),
        docker_health_pace={},
        __app_model=SimpleNamespace(**app.derived()),
        **{f"__app_{name}": "x" for name in ("id", "image", "uid", "route_folder")},
    )
    return yaml.safe_load(text)


def test_an_app_and_its_workers_have_a_way_out_by_default() -> None:
    project = release()
    assert project["networks"]["internet"] == {"external": True, "name": "shop-internet"}
    assert set(project["services"]["web"]["networks"]) == {"backend", "internet"}
    assert project["services"]["worker-mail"]["networks"] == ["backend", "internet"]


@pytest.mark.parametrize("value", [False, "no", "false", "off", 0])
def test_an_app_can_be_closed_in(value: Any) -> None:
    project = release(internet=value)
    assert list(project["networks"]) == ["backend"]
    assert set(project["services"]["web"]["networks"]) == {"backend"}
    assert project["services"]["worker-mail"]["networks"] == ["backend"]


def test_a_change_of_the_way_out_is_a_new_release() -> None:
    assert App.from_entry(entry(internet=False)).release_keys["internet"] is False


# -- a database elsewhere -------------------------------------------------------------------------


def test_an_external_database_is_in_the_vault() -> None:
    external = entry(database="external")
    assert not has_postgres(external)
    assert required_secrets(external) == ["SECRET_KEY"]
    app = App.from_entry(external)
    assert app.secrets({"DATABASE_URL": URL})["DATABASE_URL"] == URL
    # Each release has its own, so a rollback returns to the address of its time.
    assert app.shared_secrets({"DATABASE_URL": URL}) == []
    assert app.mounts == []
    assert problems({"DATABASE_URL": URL}, database="external") == []


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (None, "vault_app_secrets.shop.DATABASE_URL: is missing, but database is external"),
        ("", "is missing"),
        ("db.example.org", "is not a URL"),
        ("postgresql:///shop?host=/run/postgresql", "names no host"),
        ("postgresql://shop:a/b@db.example.org:port/x", "is not a valid URL"),
        ("sqlite:////data/app.db", "names a file, not a server"),
        ("postgresql://shop@localhost/shop", "names localhost, which is the app's own container"),
        ("mysql+pymysql://shop@127.0.0.1:3306/shop", "names 127.0.0.1"),
        ("postgresql://shop@db/shop", "names db, but the app has no Postgres of its own"),
        ("postgresql://shop@10.0.0.5/shop", "a private address, which apps may not reach"),
    ],
)
def test_an_external_database_that_cannot_work_is_refused(url: str | None, text: str) -> None:
    found = problems({"DATABASE_URL": url}, database="external")
    assert any(text in line for line in found), found
    assert not [line for line in found if line.startswith("warning")]


def test_a_finding_never_shows_the_database_s_password() -> None:
    for url in (URL.replace("db.example.org", "10.0.0.5"), URL.replace("5432", "x"), "x" + URL):
        found = problems({"DATABASE_URL": url}, database="external", internet=False)
        assert found and "p%40ss" not in "".join(found)


def test_a_private_database_is_reached_if_the_operator_says_so() -> None:
    given = {"DATABASE_URL": "postgresql://shop@10.0.0.5/shop"}
    assert problems(given, ["10.0.0.0/24"], database="external") == []
    assert problems(given, ["10.1.0.0/24", "x"], database="external") != []


def test_an_external_database_needs_a_way_there() -> None:
    (text,) = problems({"DATABASE_URL": URL}, database="external", internet=False)
    assert "names a host, which the app cannot reach with internet: false" in text
    # A service beside the app is reached without one.
    given = {"DATABASE_URL": "mysql://root@mysql/shop"}
    services = [{"name": "mysql", "image": "mysql:8"}]
    assert problems(given, database="external", internet=False, services=services) == []


# -- other servers --------------------------------------------------------------------------------


def test_a_mail_server_is_recognized_with_its_port() -> None:
    environment = {"MAIL_SERVER": "mail.example.org", "MAIL_PORT": 587, "SITE_MAIL": "a@b.org"}
    assert targets("apps.shop", entry(environment=environment), {}) == [
        Target("apps.shop.environment.MAIL_SERVER", "mail.example.org", 587)
    ]
    environment = {
        "SMTP_HOST": "a.org",
        "BROKER": "amqp://x:y@b.org/",
        "HOME_PAGE": "https://c.org",
    }
    found = targets("apps.shop", entry(environment=environment), {})
    assert [(t.host, t.port) for t in found] == [("a.org", 25), ("b.org", 5672)]


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"REDIS_URL": "redis://localhost:6379"}, "Add services: [valkey]"),
        ({"MAIL_SERVER": "localhost"}, "docker_apps_may_reach_ports"),
        ({"DB": "postgresql+psycopg://x@127.0.0.1/x"}, "Set database: postgres"),
        ({"BROKER": "amqp://guest@localhost//"}, "Add it to services with an image"),
        ({"REDIS_URL": "redis://192.168.0.7"}, "docker_apps_may_reach"),
    ],
)
def test_an_address_that_leads_nowhere_is_a_warning(environment: Any, text: str) -> None:
    (found,) = problems(environment=environment)
    assert found.startswith("warning") and text in found


def test_a_closed_app_with_a_mail_server_is_a_warning() -> None:
    environment = {"MAIL_SERVER": "mail.example.org"}
    assert problems(environment=environment) == []
    (found,) = problems(environment=environment, internet=False)
    assert found.startswith("warning") and "Set internet: true" in found


@pytest.mark.parametrize("command", ["rq worker", "cd jobs && rq worker", "celery -A shop worker"])
def test_a_worker_without_a_broker_is_a_warning(command: str) -> None:
    workers = [{"name": "tasks", "command": command}]
    (found,) = problems(workers=workers)
    assert "warning: apps.shop.workers[0].command" in found and "has no broker" in found
    assert problems(workers=workers, services=["redis"]) == []
    assert problems({"CELERY_BROKER_URL": "x"}, workers=workers) == []
    assert problems(workers=[{"name": "tasks", "command": "python celery_report.py"}]) == []


def test_a_way_out_without_the_rules_is_a_warning() -> None:
    (found,) = problems(isolated=False)
    assert "Set docker_isolation_enabled to true" in found
    assert problems(isolated=False, internet=False) == []


def test_a_server_that_does_not_answer_is_a_warning() -> None:
    mail = Target("apps.shop.environment.MAIL_SERVER", "mail.example.org", 25)
    vault = Target("vault_app_secrets.shop.DATABASE_URL", "db.example.org", 5432)
    errors = {
        "mail.example.org:25": "timed out",
        "db.example.org:5432": "Name or service not known",
    }
    first, second = map(str, check_reached("web1", [mail, vault], errors))
    assert "mail.example.org:25 cannot be reached from web1 (timed out). Most providers" in first
    assert "its server cannot be reached" in second and "Correct the name" in second
    assert check_reached("web1", [mail, vault], {"mail.example.org:25": ""}) == []


def test_the_server_tries_the_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        good = f"127.0.0.1:{server.getsockname()[1]}"
        found = reach([good, "127.0.0.1:1", "127.0.0.1:x"])
    assert found[good] == ""
    assert found["127.0.0.1:1"] == "Connection refused"
    assert found["127.0.0.1:x"] != ""


# -- advice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "internet", "advice"),
    [
        (
            "socket.gaierror: [Errno -3] Temporary failure in name resolution",
            False,
            "internet: false",
        ),
        (
            "socket.gaierror: [Errno -2] Name or service not known",
            True,
            "server's resolver does not",
        ),
        ('could not translate host name "pg" to address', True, "looks for pg, which"),
        ('could not translate host name "db" to address', True, "set `database: postgres`"),
        ('could not translate host name "a.org" to address', True, "looks up the name a.org"),
        (
            "Error -2 connecting to redis:6379. Name or service not known.",
            True,
            "services: [valkey]",
        ),
        (
            "urllib3.exceptions.NameResolutionError: host='api.example.org', port=443",
            False,
            "cannot reach other servers",
        ),
        ("OSError: [Errno 101] Network is unreachable", False, "cannot reach other servers"),
        ("OSError: [Errno 101] Network is unreachable", True, "no route to an address"),
        ("OSError: [Errno 113] No route to host", True, "docker_apps_may_reach"),
        (
            '  File "/usr/lib/smtplib.py", line 255\nConnectionRefusedError: Connection refused',
            True,
            "could not connect to its mail server",
        ),
        ("smtplib.SMTPServerDisconnected: Connection unexpectedly closed", True, "mail server"),
        ("smtplib.SMTPAuthenticationError: (535, b'5.7.8 Error')", True, "refused the login"),
        (
            "SMTPRecipientsRefused: {'a@b.org': (554, b'Relay access denied')}",
            True,
            "the recipient",
        ),
        ("Error 111 connecting to localhost:6379. Connection refused.", True, "services: [valkey]"),
        ('connection to server at "localhost" (::1), port 5432 failed', True, "database: postgres"),
        (
            "Cannot connect to amqp://guest:**@127.0.0.1:5672//: Connection refused",
            True,
            "RabbitMQ",
        ),
        ("KeyError: 'REDIS_URL'", True, "services: [valkey]"),
        (
            "redis.exceptions.AuthenticationError: WRONGPASS invalid username-password pair",
            True,
            "Valkey",
        ),
    ],
)
def test_a_failed_connection_is_explained(log: str, internet: bool, advice: str) -> None:
    (found,) = outside_advice(log, internet)
    assert advice in found
    log = f"Traceback (most recent call last):\n{log}"
    assert release_advice(log, {"internet": internet}) == found


@pytest.mark.parametrize(
    "log",
    ["ConnectionRefusedError: [Errno 111] Connection refused", "KeyError: 'NAME'", "timed out"],
)
def test_other_errors_are_not(log: str) -> None:
    assert outside_advice(log) == []


def test_a_missing_file_is_no_failed_connection() -> None:
    assert outside_advice("FileNotFoundError: [Errno 2] No such file or directory: 'x'") == []
    assert outside_advice("Error: getaddrinfo ENOTFOUND api.example.org") != []
