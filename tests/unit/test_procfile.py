"""A Procfile says what an entry does not say; an entry with a module stays as it is."""

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from checks.apps import check_entry, filled
from checks.outside import check_outside
from module_utils.app import App, entry_options
from module_utils.procfile import ProcfileError, complete

from app import app_completed, with_procfile

PROCFILE = """# what runs
web: gunicorn -w 4 --preload shop:app
release: flask db upgrade
mail_worker: rq worker -u $REDIS_URL
clock:   python clock.py
"""


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("gunicorn shop:app", "shop:app"),
        ("gunicorn shop", "shop:application"),
        ("gunicorn -w4 -b 0.0.0.0:$PORT --timeout=30 --log-file - 'shop:create_app()'",
         "shop:create_app()"),
        ("gunicorn --preload --chdir=web wsgi", "web.wsgi:application"),
        ("NEW_RELIC=1 newrelic-admin run-program gunicorn shop.wsgi:app", "shop.wsgi:app"),
        ("exec python3 -m gunicorn shop:app --workers 2", "shop:app"),
        ("uwsgi --http :$PORT --wsgi-file shop.py --callable app", "shop:app"),
        ("uwsgi --module shop:app --master", "shop:app"),
        ("waitress-serve --port=$PORT --call shop:create_app", "shop:create_app()"),
        ("flask --app shop.py run --port $PORT", "shop:app"),
        ("poetry run gunicorn shop:app", "shop:app"),
    ],
)  # fmt: skip
def test_the_web_line_of_a_known_server_names_the_callable(line: str, module: str) -> None:
    assert complete({"name": "shop"}, f"web: {line}")["module"] == module


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: python app.py", "starts python"),
        ("web: uwsgi uwsgi.ini", "starts uwsgi"),
        ("web: ./start.sh", "starts start.sh"),
        ("worker: rq worker", "has no line that begins with web:"),
        ("web: gunicorn 'shop:app", "no shell can read"),
    ],
)
def test_a_web_line_that_names_none_is_a_problem(text: str, said: str) -> None:
    with pytest.raises(ProcfileError, match=said):
        complete({"name": "shop"}, text)


@pytest.mark.parametrize(
    ("line", "server", "worker_class"),
    [
        ("uvicorn shop:app", "asgi", None),
        ("gunicorn -k uvicorn.workers.UvicornWorker shop:app", "asgi", None),
        ("gunicorn --worker-class gevent shop:app", "gunicorn", "gevent"),
        ("gunicorn -k gthread shop:app", None, None),
    ],
)
def test_a_server_that_the_app_may_need_is_kept(
    line: str, server: str | None, worker_class: str | None
) -> None:
    found = complete({"name": "shop"}, f"web: {line}")
    assert (found.get("server"), found.get("worker_class")) == (server, worker_class)
    # The entry wins.
    found = complete({"name": "shop", "server": "uwsgi"}, f"web: {line}")
    assert (found["server"], found.get("worker_class")) == ("uwsgi", None)


def test_all_lines_become_keys() -> None:
    found = complete({"name": "shop"}, PROCFILE)
    assert found["init"] == "flask db upgrade"
    assert found["workers"] == [
        {"name": "mail-worker", "command": "rq worker -u $REDIS_URL"},
        {"name": "clock", "command": "python clock.py"},
    ]
    App.from_entry({"domains": ["shop.test"], **found})


def test_what_runs_before_the_server_is_the_release_command() -> None:
    text = "web: flask db upgrade; gunicorn shop:app"
    assert complete({}, text)["init"] == "flask db upgrade"
    assert complete({}, text + "\nrelease: ./migrate")["init"] == "./migrate"
    quoted = "sh -c 'cd jobs; ./migrate'"
    assert complete({}, f"{text}\nrelease: {quoted}")["init"] == quoted


@pytest.mark.parametrize(
    "command",
    ["flask translate compile", "pybabel -q compile -d tr", "flask assets build", "npm run build"],
)
def test_what_compiles_files_is_for_the_build(command: str) -> None:
    found = complete({}, f"web: flask db upgrade; {command}; gunicorn shop:app")
    assert (found["init"], found["build"]) == ("flask db upgrade", command)
    found = complete({"build": "make"}, f"web: gunicorn shop:app\nrelease: {command}")
    assert found["build"] == "make" and "init" not in found
    # Negative control: other commands need the running app's database.
    assert "build" not in complete({}, "web: flask translate; gunicorn shop:app")


def test_the_entry_comes_first() -> None:
    assert complete({"module": "x:y"}, PROCFILE) == {"module": "x:y"}
    assert complete({"dockerfile": "Dockerfile"}, PROCFILE) == {"dockerfile": "Dockerfile"}
    found = complete({"init": "true", "workers": []}, PROCFILE)
    assert (found["init"], found["workers"]) == ("true", [])


def source(folder: Path, text: str, **entry: Any) -> dict[str, Any]:
    (folder / "requirements.txt").touch()
    (folder / "Procfile").write_text(text)
    return {"name": "shop", "source": str(folder), "domains": ["shop.test"], **entry}


def test_lines_that_are_not_used_are_a_warning(tmp_path: Path) -> None:
    entry = source(tmp_path, PROCFILE, module="shop:app", init="flask db upgrade")
    (finding,) = check_entry(entry, "apps.shop")
    assert finding.warning and "mail_worker, clock are not used" in str(finding)
    assert check_entry({**entry, "workers": []}, "apps.shop") == []


def test_a_source_from_git_is_completed_after_the_fetch() -> None:
    entry = {"name": "shop", "source": "git@host:shop", "domains": ["shop.test"]}
    apps = [
        app_completed(entry, {"app_memory_mb": 300, "tls": "own"}),
        app_completed({**entry, "name": "blog", "module": "blog:app"}, {"app_memory_mb": 300}),
    ]
    shop, blog = with_procfile(apps, "shop", PROCFILE)
    assert (shop["module"], shop["memory_mb"], shop["tls"]) == ("shop:app", 300, "own")
    # A rollback starts from what is recorded.
    assert shop["given"]["module"] == "shop:app" and set(shop) == {*entry_options(), "given"}
    assert blog == apps[1]
    with pytest.raises(AnsibleFilterError, match="source has no Procfile"):
        with_procfile(apps, "shop", "")
    with pytest.raises(AnsibleFilterError, match="Procfile starts python"):
        with_procfile(apps, "shop", "web: python app.py")


def test_rules_know_what_the_procfile_says(tmp_path: Path) -> None:
    entry = source(tmp_path, "web: gunicorn -k gevent shop:app\nqueue: rq worker\n", processes=1)
    (tmp_path / "requirements.txt").write_text("flask-socketio\ngevent\n")
    assert check_entry(entry, "apps.shop") == []
    # With uWSGI, the default of an entry that names the module, these would not work.
    named = check_entry({**entry, "module": "shop:app"}, "apps.shop")
    assert "apps.shop.server" in [finding.variable for finding in named]
    broker = check_outside("apps.shop", filled({**entry, "database": "none"}), None, [])
    assert [str(finding.wrong) for finding in broker] == ["runs rq, but the app has no broker"]
