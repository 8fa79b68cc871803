"""What the role app makes of an entry, and of a log."""

import sys
from pathlib import Path

import jinja2
import pytest
import yaml

from app import app_volumes, build_secrets, release_advice, wsgi_loader

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["shop", "shop.wsgi:application", "shop:create_app()"])
def test_uwsgi_loads_plain_modules_itself(module: str) -> None:
    assert wsgi_loader(module) == f"module = {module}"


@pytest.mark.parametrize(
    ("module", "made"),
    [
        ("foreign:create_app('50 %', debug=False)", ("50 %", False)),
        ("foreign:create_app({'a;b': '#'})", ({"a;b": "#"}, True)),
        ("foreign:Web.create_app(1)", (1, True)),
        ("foreign:Web.app", "app"),
    ],
)
def test_other_callables_are_loaded_by_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, made: object
) -> None:
    (tmp_path / "foreign.py").write_text(
        "def create_app(a, debug=True): return (a, debug)\n"
        "class Web: create_app = staticmethod(create_app); app = 'app'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "foreign", raising=False)
    option, _, code = wsgi_loader(module).partition(" = ")
    assert option == "eval"
    names: dict[str, object] = {}
    # uWSGI replaces what follows a single percent sign.
    exec(code.replace("%%", "%"), names)  # noqa: S102
    assert names["application"] == made
    assert code.count("%") % 2 == 0


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("unable to load app 0 (callable not found or import error)", "`module` must name"),
        ("Traceback ...\nModuleNotFoundError: No module named 'shop.x'", "shop.x is neither"),
        ("OSError: [Errno 30] Read-only file system: '/app/instance'", "writes to /app/instance"),
        ("sqlite3.OperationalError: unable to open database file", "database: sqlite"),
        ("KeyError: 'MAIL_SERVER'", "misses the variable MAIL_SERVER"),
    ],
)
def test_a_log_is_explained(log: str, advice: str) -> None:
    assert advice in release_advice(log)


def test_a_traceback_outweighs_the_last_line_of_uwsgi() -> None:
    last = "unable to load app 0 (callable not found or import error)"
    assert release_advice(f"Traceback ...\nZeroDivisionError\n{last}") == ""


def test_volumes_of_two_apps_keep_apart() -> None:
    entries = [{"name": "a", "volumes": ["/b-c/"]}, {"name": "a-b", "volumes": ["/c"]}]
    names = [volume["name"] for entry in entries for volume in app_volumes(entry)]
    assert names == ["a.b-c", "a-b.c"]


def test_a_dockerfile_mounts_no_cache_of_other_apps() -> None:
    tasks = yaml.safe_load((ROOT / "roles/app/tasks/build.yml").read_text())
    [block] = [task["block"] for task in tasks if "block" in task]
    [build] = [task for task in block if "community.docker.docker_image_build" in task]
    name = build["community.docker.docker_image_build"]["args"]["BUILDKIT_CACHE_MOUNT_NS"]
    shop = {"app_entry": {"name": "shop"}}
    assert jinja2.Template(name).render(**shop, __app_is_own=True) == "shop"
    # With our recipe no step but the installation of dependencies has one.
    assert jinja2.Template(name).render(**shop, __app_is_own=False) == ""


def test_a_dockerfile_gets_the_secrets_that_its_entry_names() -> None:
    assert build_secrets({}) == ["ca_bundle", "pip_index_url"]
    assert build_secrets({"build_secrets": ["ca_bundle"]}) == ["ca_bundle", "pip_index_url"]
    own = {"dockerfile": "Dockerfile"}
    assert build_secrets(own) == []
    assert build_secrets({**own, "build_secrets": None}) == []
    assert build_secrets({**own, "build_secrets": ["pip_index_url"]}) == ["pip_index_url"]
    files = yaml.safe_load((ROOT / "roles/app/vars/main.yml").read_text())["__app_build_files"]
    assert [file["id"] for file in files] == build_secrets({})
