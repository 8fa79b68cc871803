"""The model of an app: what follows from an entry; and advice on logs."""

import ast
import importlib
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from module_utils.app import App, entry_options

from app import app_completed, app_configuration, release_advice

ROOT = Path(__file__).parents[2]


def shop(**entry: Any) -> App:
    return App.from_entry({"name": "shop", "domains": ["shop.test"], "module": "shop:app", **entry})


def test_the_model_has_the_keys_of_the_argument_spec() -> None:
    assert {field.name for field in fields(App)} == {*entry_options(), "given"}
    without = [
        key
        for key, option in entry_options().items()
        if "default" not in option and not option.get("required")
    ]
    # Their defaults are other variables' values, or there is none.
    assert without == ["memory_mb", "postgres_version", "port", "tls"]


def test_an_entry_is_completed_and_says_what_was_given() -> None:
    given = {"name": "shop", "domains": ["Bücher.test"], "processes": "3", "init": None}
    entry = app_completed(given, {"app_memory_mb": 300, "tls": "own"})
    assert entry["domains"] == ["xn--bcher-kva.test"]
    assert (entry["processes"], entry["threads"], entry["init"]) == (3, 4, "")
    assert (entry["memory_mb"], entry["tls"], entry["given"]) == (300, "own", given)
    # A completed entry stays the same.
    assert app_completed(entry) == entry


def test_the_configuration_shows_secrets_by_name_alone() -> None:
    secrets = {"SECRET_KEY": "hunter2", "POSTGRES_PASSWORD": "hunter3"}
    text = app_configuration(app_completed({"name": "shop", "domains": ["shop.test"]}), secrets)
    shown = yaml.safe_load(text)
    assert shown["derived"]["secrets"] == ["DATABASE_URL", "POSTGRES_PASSWORD", "SECRET_KEY"]
    assert shown["derived"]["variables"]["SECRET_KEY_FILE"] == "/run/secrets/SECRET_KEY"
    assert "hunter" not in text and text.startswith("name: shop\n")


def test_the_password_of_a_database_is_quoted_in_its_url() -> None:
    url = shop().secrets({"POSTGRES_PASSWORD": "a/b@c ü"})["DATABASE_URL"]
    assert url == "postgresql://shop:a%2Fb%40c%20%C3%BC@db:5432/shop"
    assert (
        shop().secrets({"POSTGRES_PASSWORD": "x", "DATABASE_URL": "own"})["DATABASE_URL"] == "own"
    )
    assert shop(database="none").secrets({}) == {}


def test_variables_of_an_entry_come_before_ours() -> None:
    found = shop(environment={"HOME": "/data", "DEBUG": False}).variables([])
    assert (found["HOME"], found["DEBUG"], found["FLASK_APP"]) == ("/data", False, "shop:app")
    assert shop(dockerfile="Dockerfile", port=80).variables([])["PORT"] == "80"


@pytest.mark.parametrize(
    ("module", "made"),
    [
        ("foreign", "default"),
        ("foreign:application", "default"),
        ("foreign:create_app('50 %', debug=False)", ("50 %", False)),
        ("foreign:create_app({'a;b': '#'})", ({"a;b": "#"}, True)),
        ("foreign:Web.create_app(1)", (1, True)),
        ("foreign:Web.app", "app"),
    ],
)
@pytest.mark.parametrize("server", ["uwsgi", "gunicorn", "asgi"])
def test_servers_load_what_the_module_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, made: object, server: str
) -> None:
    (tmp_path / "foreign.py").write_text(
        "class Made(tuple):\n    def __call__(self): ...\n"
        "class Text(str):\n    def __call__(self): ...\n"
        "def create_app(a, debug=True): return Made((a, debug))\n"
        "application = Text('default')\n"
        "class Web: create_app = staticmethod(create_app); app = Text('app')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "foreign", raising=False)
    monkeypatch.syspath_prepend(ROOT / "roles/app/files/recipe/runtime")
    app = shop(module=module, server=server, processes=1)
    if server == "uwsgi":
        option, _, code = app.loader.partition(" = ")
        assert option == "eval"
        assert code.count("%") % 2 == 0
        names: dict[str, object] = {}
        # uWSGI expands single percent signs, and reads two as one.
        exec(code.replace("%%", "%"), names)  # noqa: S102
        assert names["application"].app == made
        return
    # gunicorn calls the function with literal arguments.
    path, _, call = app.gunicorn_app.partition(":")
    called = ast.parse(call, mode="eval").body
    function = getattr(importlib.import_module(path), called.func.id)
    assert function(*map(ast.literal_eval, called.args)).app == made


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("unable to load app 0 (callable not found or import error)", "`module` must name"),
        ("Traceback ...\nModuleNotFoundError: No module named 'shop.x'", "shop.x is neither"),
        ("OSError: [Errno 30] Read-only file system: '/app/instance'", "writes to /app/instance"),
        ("sqlite3.OperationalError: unable to open database file", "database: sqlite"),
        ("KeyError: 'MAIL_SERVER'", "lacks the variable MAIL_SERVER"),
        (
            "Traceback ...\nImportError: `module` names app, which shop does not have",
            "`module` must name",
        ),
    ],
)
def test_a_log_is_explained(log: str, advice: str) -> None:
    assert advice in release_advice(log)


def test_a_traceback_outweighs_the_last_line_of_uwsgi() -> None:
    last = "unable to load app 0 (callable not found or import error)"
    assert release_advice(f"Traceback ...\nZeroDivisionError\n{last}") == ""


def test_volumes_of_two_apps_keep_apart() -> None:
    entries = [{"name": "a", "volumes": ["/b-c/"]}, {"name": "a-b", "volumes": ["/c"]}]
    names = [volume["name"] for entry in entries for volume in shop(**entry).mounts]
    assert names == ["a.b-c", "a-b.c"]


def test_a_dockerfile_mounts_no_cache_of_other_apps() -> None:
    values = yaml.safe_load((ROOT / "roles/app/vars/main.yml").read_text())
    name = values["__app_build_cache"]["BUILDKIT_CACHE_MOUNT_NS"]
    # Arguments of the entry cannot replace it.
    assert values["__app_build_args"].endswith(", app_entry.build_args, __app_build_cache) }}")
    shop = {"app_entry": {"name": "shop"}}
    assert jinja2.Template(name).render(**shop, __app_model={"has_dockerfile": True}) == "shop"
    # In our recipe only the installation of dependencies has a cache mount.
    assert jinja2.Template(name).render(**shop, __app_model={"has_dockerfile": False}) == ""


def test_a_dockerfile_gets_the_secrets_that_its_entry_names() -> None:
    ours = ["ca_bundle", "pip_index_url", "build_secrets"]
    assert shop().build_reads == ours
    assert shop(build_secrets=["ca_bundle"]).build_reads == ours
    assert shop(dockerfile="Dockerfile").build_reads == []
    assert shop(dockerfile="Dockerfile", build_secrets=None).build_reads == []
    own = shop(dockerfile="Dockerfile", build_secrets=["TOKEN", "pip_index_url"])
    assert own.build_reads == ["pip_index_url", "TOKEN"]
    files = yaml.safe_load((ROOT / "roles/app/vars/main.yml").read_text())["__app_build_files"]
    assert [file["id"] for file in files] == shop().build_reads
