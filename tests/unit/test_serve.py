"""Which server runs an app, its own image, and preflight's rules for both."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from checks.apps import check_apps
from checks.own_image import check_own_image
from checks.report import Finding
from checks.serve import check_serve
from module_utils.app import App, entry_options, required_secrets

ROLE = Path(__file__).parents[2] / "roles/app"


def shop(**entry: Any) -> App:
    return App.from_entry({"name": "shop", "domains": ["shop.test"], "module": "shop:app", **entry})


def render(name: str, **entry: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701  # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["to_json"] = json.dumps
    environment.filters["without_edge_variables"] = lambda _: []
    environment.filters["exec_path"] = lambda _: "/opt/flask-vps/exec:/usr/bin:/bin"
    app = shop(memory_mb=128, **entry)
    return environment.get_template(f"release/{name}.j2").render(
        __app_built={"images": [{"Config": {"Entrypoint": None, "Cmd": ["run"]}}]},
        __app_id="0123456789ab",
        __app_image="flask-vps/shop:0123456789ab",
        __app_model=app.derived(),
        __app_owner=20001 if app.owner is None else app.owner,
        __app_route_folder="/routes",
        __app_uid=20001,
        app_entry=app.entry(),
        app_relay_image="nginx",
        docker_health_pace={"interval": "30s"},
    )


def compose(**entry: Any) -> dict[str, Any]:
    return yaml.safe_load(render("compose.yml", **entry))["services"]


def settings(**entry: Any) -> dict[str, Any]:
    """Run gunicorn's configuration, which is Python."""
    found: dict[str, Any] = {}
    exec(render("gunicorn.conf.py", **entry), found)  # noqa: S102
    return found


def found(check: Any, **entry: Any) -> list[Finding]:
    return check({"name": "shop", **entry}, "apps.shop")


def places(findings: list[Finding], *, warnings: bool = False) -> list[str]:
    return [f.variable.removeprefix("apps.shop.") for f in findings if f.warning == warnings]


# -- servers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "kind", "file", "packages", "busy_at"),
    [
        ({}, "uwsgi", "uwsgi.ini", ["uwsgi"], 8),
        ({"server": "gunicorn"}, "http", "gunicorn.conf.py", ["gunicorn"], 8),
        (
            {"server": "gunicorn", "worker_class": "sync"},
            "http",
            "gunicorn.conf.py",
            ["gunicorn"],
            2,
        ),
        (
            {"server": "gunicorn", "worker_class": "gevent"},
            "http",
            "gunicorn.conf.py",
            ["gunicorn", "gevent", "packaging"],
            1,
        ),
        (
            {"server": "asgi"},
            "http",
            "gunicorn.conf.py",
            ["gunicorn", "uvicorn", "uvicorn-worker", "websockets"],
            1,
        ),
        # An own image brings its server.
        ({"dockerfile": "Dockerfile", "port": 80, "server": "asgi"}, "http", "relay.conf", [], 1),
        ({"image": "shop:1", "port": 80}, "http", "relay.conf", [], 8),
    ],
)
def test_what_a_server_needs(
    entry: dict[str, Any], kind: str, file: str, packages: list[str], busy_at: int
) -> None:
    app = shop(**entry)
    assert (app.kind, app.configuration, app.server_packages) == (kind, file, packages)
    assert app.busy_at == busy_at


def test_gunicorn_is_configured_like_the_entry() -> None:
    threads = settings(server="gunicorn", processes=3, threads=5, timeout_seconds=9)
    assert (threads["workers"], threads["threads"], threads["worker_class"]) == (3, 5, "gthread")
    # A worker without a free thread leaves the request to another one.
    assert threads["worker_connections"] == threads["threads"]
    assert threads["timeout"] > 9
    assert "threads" not in settings(server="gunicorn", worker_class="sync")


@pytest.mark.parametrize("server", ["gunicorn", "asgi"])
def test_other_servers_than_uwsgi_drain_before_they_stop(server: str) -> None:
    web = compose(server=server, timeout_seconds=9)["web"]
    assert web["command"][:3] == ["drain", "9", "gunicorn"]
    assert any("/etc/gunicorn.conf.py" in str(volume) for volume in web["volumes"])
    assert "command" not in compose()["web"]


@pytest.mark.parametrize("entry", [{}, {"server": "gunicorn"}, {"image": "shop:1", "port": 80}])
def test_a_release_has_longer_to_stop_than_its_requests_take(entry: dict[str, Any]) -> None:
    services = compose(timeout_seconds=300, **entry)
    for name, service in services.items():
        assert int(service["stop_grace_period"].rstrip("s")) > 300, name
    assert shop(timeout_seconds=300).stop_seconds == 315


def test_uwsgi_stops_within_the_time_of_its_requests() -> None:
    ini = render("uwsgi.ini", timeout_seconds=300)
    assert "worker-reload-mercy = 300\n" in ini
    assert ".wsgi('shop:app', 300, 2)\n" in ini


def test_a_worker_may_be_any_shell_line() -> None:
    line = 'cd jobs && rq worker "$QUEUE"'
    worker = compose(workers=[{"name": "mail", "command": line}])["worker-mail"]
    assert worker["command"] == ["sh", "/usr/local/bin/run-line", line.replace("$", "$$")]
    worker = compose(image="x:1", port=80, workers=[{"name": "mail", "command": line}])
    assert worker["worker-mail"]["command"][1] == "/opt/flask-vps/run-line"


@pytest.mark.parametrize("key", ["workers", "cron"])
def test_the_scheduler_of_celery_has_a_place_to_write(key: str) -> None:
    assert "CELERY_BEAT_SCHEDULE" not in shop().variables([])
    entry = [{"name": "beat", "command": "celery -A shop beat", "schedule": "* * * * *"}]
    variables = shop(**{key: entry}).variables([])
    assert variables["CELERY_BEAT_SCHEDULE"].startswith("/tmp/")  # noqa: S108
    own = shop(**{key: entry}, environment={"CELERY_BEAT_SCHEDULE": "/data/x"}).variables([])
    assert own["CELERY_BEAT_SCHEDULE"] == "/data/x"


# -- preflight about servers ----------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text("flask\n# flask-socketio\n")
    return tmp_path


@pytest.mark.parametrize(
    ("entry", "idle"),
    [
        ({"worker_class": "sync"}, ["worker_class"]),
        ({"server": "gunicorn", "worker_class": "sync", "threads": 4}, ["threads"]),
        ({"server": "asgi", "threads": 4}, ["threads"]),
        ({"dockerfile": "Dockerfile", "server": "gunicorn"}, ["server"]),
        ({"image": "x:1", "processes": 2}, ["processes"]),
        ({"server": "gunicorn", "worker_class": "gthread", "threads": 4}, []),
        ({"server": "asgi"}, []),
    ],
)
def test_keys_without_effect_are_named(
    entry: dict[str, Any], idle: list[str], source: Path
) -> None:
    findings = found(check_serve, source=str(source), **entry)
    assert places(findings, warnings=True) == idle
    assert places(findings) == []


@pytest.mark.parametrize("name", ["Flask-SocketIO==5.3", "flask_socketio", "  Flask-SocketIO[x]"])
def test_socket_io_needs_one_process_and_a_server_for_web_sockets(name: str, source: Path) -> None:
    (source / "requirements.txt").write_text(f"flask\n{name}\n")
    assert places(found(check_serve, source=str(source))) == ["server", "processes"]
    fitting = {"server": "gunicorn", "processes": 1, "threads": 100}
    assert found(check_serve, source=str(source), **fitting) == []
    two = found(check_serve, source=str(source), **{**fitting, "processes": 2})
    assert places(two) == ["processes"]
    # One process of uWSGI answers clients that poll, as before.
    polling = found(check_serve, source=str(source), processes=1)
    assert (places(polling), places(polling, warnings=True)) == ([], ["server"])
    with (source / "requirements.txt").open("a") as file:
        file.write("gevent==26.9\n")
    assert places(found(check_serve, source=str(source), **fitting)) == ["worker_class"]
    greenlets = {"server": "gunicorn", "processes": 1, "worker_class": "gevent"}
    assert found(check_serve, source=str(source), **greenlets) == []


def test_socket_io_is_found_in_other_lists(source: Path) -> None:
    (source / "requirements.txt").unlink()
    (source / "pyproject.toml").write_text('dependencies = ["flask>=3", "Flask-SocketIO>=5"]\n')
    assert places(found(check_serve, source=str(source))) == ["server", "processes"]
    # Controls: a git address cannot be read, and another package has a similar name.
    assert found(check_serve, source="https://git.test/shop.git") == []
    (source / "pyproject.toml").write_text('dependencies = ["my-flask-socketio-mock"]\n')
    assert found(check_serve, source=str(source)) == []


# -- an own image ---------------------------------------------------------------------------------


def test_an_image_that_is_built_elsewhere_needs_no_source() -> None:
    app = shop(image="registry.test/shop:1", port=80)
    assert app.has_dockerfile
    assert (app.source_needs, app.build_reads) == ({}, [])
    assert app.names.repository == "flask-vps/shop"
    assert required_secrets({"image": "shop:1", "database": "none"}) == []
    assert required_secrets({"database": "none"}) == ["SECRET_KEY"]


def test_the_user_of_an_image_owns_what_it_reads() -> None:
    assert shop().owner is None
    assert compose()["web"]["user"] == "20001:20001"
    assert shop(image="x:1", user="1000:100").owner == 1000
    web = compose(image="x:1", port=80, user="1000:100")["web"]
    assert web["user"] == "1000:100"
    assert "cap_add" not in web
    # Root gets what it needs to become another user, and the relay stays as it is.
    services = compose(image="x:1", port=80, user=0, read_only=False, writable=["/app/var"])
    assert "SETUID" in services["web"]["cap_add"]
    assert "SYS_ADMIN" not in services["web"]["cap_add"]
    assert services["web"]["read_only"] is False
    assert "/app/var:uid=0,gid=0,mode=755" in services["web"]["tmpfs"]
    assert services["relay"]["user"] == "20001:20001"
    assert services["relay"]["read_only"] is True
    assert "cap_add" not in services["relay"]


@pytest.mark.parametrize(
    ("entry", "problems", "warned"),
    [
        ({"dockerfile": "D", "build_args": {"VERSION": "1"}, "build_target": "run"}, [], []),
        ({"build_args": {"VERSION": "1"}}, [], ["build_args"]),
        ({"dockerfile": "D", "build_args": {"PYTHON": 3.1}}, ["build_args.PYTHON"], []),
        ({"dockerfile": "D", "build_args": {"A-B": "1"}}, ["build_args.A-B"], []),
        ({"dockerfile": "D", "build_args": {"BUILDKIT_X": "1"}}, ["build_args.BUILDKIT_X"], []),
        ({"dockerfile": "D", "build_args": {"NPM_TOKEN": "x"}}, [], ["build_args.NPM_TOKEN"]),
        ({"dockerfile": "D", "build_target": "a b"}, ["build_target"], []),
        ({"image": "registry.test:5000/team/shop:1.4"}, [], []),
        ({"image": "shop@sha256:" + "0" * 64}, [], []),
        ({"image": "shop"}, [], ["image"]),
        ({"image": "shop:latest"}, [], ["image"]),
        ({"image": "https://registry.test/shop:1"}, ["image"], []),
        ({"image": "Shop:1"}, ["image"], []),
        ({"image": "shop:1", "dockerfile": "D"}, [], ["dockerfile"]),
        ({"image": "shop:1", "static": "static"}, ["static"], []),
        ({"user": "1000"}, ["user"], []),
        ({"image": "shop:1", "user": "app"}, ["user"], []),
        ({"image": "shop:1", "user": 20001}, ["user"], []),
        ({"image": "shop:1", "user": 0}, [], ["user"]),
        ({"image": "shop:1", "user": "1000:1000"}, [], ["user"]),
        ({"read_only": False}, [], ["read_only"]),
        ({"read_only": "no"}, [], ["read_only"]),
        ({"read_only": True}, [], []),
        ({"writable": ["/app/var"]}, [], ["writable"]),
        ({"writable": ["/app"]}, ["writable"], []),
        ({"writable": ["/opt/venv/lib"]}, ["writable"], []),
        ({"writable": ["var"]}, ["writable"], []),
        ({"writable": ["/app/../etc"]}, ["writable"], []),
        ({"writable": ["/data"], "volumes": ["/data/"]}, ["writable"], []),
        ({"image": "shop:1", "volumes": ["/app/data", "/app/shop.db/"]}, [], ["volumes"]),
        ({"volumes": ["/app/shop.db"]}, [], []),
    ],
)
def test_an_own_image_is_checked(
    entry: dict[str, Any], problems: list[str], warned: list[str]
) -> None:
    findings = found(check_own_image, **entry)
    assert places(findings) == problems
    assert places(findings, warnings=True) == warned


@pytest.mark.parametrize(("kind", "prefix"), [("http", "proxy"), ("uwsgi", "uwsgi")])
def test_the_relay_tells_the_edge_not_to_buffer_streams(kind: str, prefix: str) -> None:
    relay = render("relay.conf", dockerfile="D", port=80, protocol=kind, timeout_seconds=300)
    assert f"{prefix}_pass_header X-Accel-Buffering;" in relay
    assert "add_header X-Accel-Buffering $stream_buffering always;" in relay
    # The edge answers 504 before the relay gives up.
    assert f"{prefix}_read_timeout 315s;" in relay


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ({"server": "gunicron"}, ["server"]),
        ({"server": True}, ["server"]),
        ({"server": "gunicorn", "worker_class": "eventlet"}, ["worker_class"]),
        ({"timeout_seconds": "60s"}, ["timeout_seconds"]),
        ({"timeout_seconds": 0}, ["timeout_seconds"]),
        ({"timeout_seconds": 3601}, ["timeout_seconds"]),
        ({"writable": "/app/var"}, ["writable"]),
        ({"read_only": "perhaps"}, ["read_only"]),
        ({"build_args": ["A=1"]}, ["build_args"]),
        ({"image": "shop:1", "port": None, "source": None, "module": None}, ["port"]),
        ({"image": "shop:1", "port": 80, "source": None, "module": None}, []),
        ({"timeout_seconds": 3600, "server": "asgi", "read_only": "yes"}, []),
    ],
)
def test_preflight_names_what_is_wrong(
    entry: dict[str, Any], wrong: list[str], source: Path
) -> None:
    whole = {"name": "shop", "domains": ["shop.test"], "module": "shop:app", "source": str(source)}
    given = {key: value for key, value in {**whole, **entry}.items() if value is not None}
    assert places(check_apps([given], entry_options(), public_ca=False, tls="acme")) == wrong
