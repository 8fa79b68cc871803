"""The keys of an app's database, and numbers that must fit together."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from checks.capacity import check_capacity
from checks.databases import check_connections, check_database, check_versions
from checks.host import Server, check_server
from module_utils.app import App
from module_utils.postgres_settings import (
    INCLUDED,
    PACKAGES,
    extension_packages,
    icu_locale,
    postgres_image,
)

from app import app_secret_files, exec_path

ROOT = Path(__file__).parents[2]
POSTGRES = ROOT / "roles/postgres"


def shop(**entry: Any) -> App:
    return App.from_entry({"name": "shop", "domains": ["shop.test"], "module": "shop:app", **entry})


def found(**entry: Any) -> list[str]:
    return [str(finding) for finding in check_database({"name": "shop", **entry}, "apps.shop")]


def template(name: str, **values: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(POSTGRES / "templates"), trim_blocks=True
    )
    environment.filters |= {"icu_locale": icu_locale, "to_json": json.dumps}
    return environment.get_template(name).render(values)


# -- address ---------------------------------------------------------------------------------------


def test_the_address_has_the_scheme_that_the_app_wants() -> None:
    secrets = {"POSTGRES_PASSWORD": "x"}
    app = shop(database_url_scheme="postgresql+psycopg")
    assert app.secrets(secrets)["DATABASE_URL"] == "postgresql+psycopg://shop:x@db:5432/shop"
    lite = shop(database="sqlite", database_url_scheme="sqlite+aiosqlite")
    assert lite.secrets({})["DATABASE_URL"] == "sqlite+aiosqlite:////data/app.db"


@pytest.mark.parametrize(
    ("scheme", "database", "said"),
    [
        ("postgresql+psycopg://", "postgres", "Write postgresql+psycopg"),
        ("mysql+pymysql", "postgres", "is not for database: postgres"),
        ("postgresql", "sqlite", "is not for database: sqlite"),
        ("postgresql", "none", "has no effect"),
        ("Postgres", "postgres", "is not a scheme"),
    ],
)
def test_a_scheme_that_does_not_fit_is_a_finding(scheme: str, database: str, said: str) -> None:
    assert said in found(database_url_scheme=scheme, database=database)[0]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_a_scheme_that_fits_is_none(scheme: str) -> None:
    assert found(database_url_scheme=scheme) == []


def test_a_release_finds_the_address_in_its_own_form() -> None:
    """Releases share the address, so that a new password reaches the one of a rollback, too."""
    new = shop(database_url_scheme="postgresql+psycopg")
    assert new.secret_files({"POSTGRES_PASSWORD": "x"})["DATABASE_URL"] == (
        "DATABASE_URL.postgresql+psycopg"
    )
    assert shop().secret_files({"POSTGRES_PASSWORD": "x"})["DATABASE_URL"] == "DATABASE_URL"
    old = {"id": "1", "entry": shop().given}
    files = app_secret_files(new.entry(), {"POSTGRES_PASSWORD": "x"}, [old, old, {"id": "0"}])
    addresses = {file["file"]: file["value"] for file in files if file["key"] == "DATABASE_URL"}
    assert addresses == {
        "DATABASE_URL.postgresql+psycopg": "postgresql+psycopg://shop:x@db:5432/shop",
        "DATABASE_URL": "postgresql://shop:x@db:5432/shop",
    }
    assert len(files) == 3
    # An address of the app's own has one form.
    own = app_secret_files(shop(database="none").entry(), {"DATABASE_URL": "x"}, [old])
    assert own == [{"key": "DATABASE_URL", "file": "DATABASE_URL", "value": "x"}]


# -- extensions and locale -------------------------------------------------------------------------


def test_only_extensions_beyond_postgres_need_packages() -> None:
    names = ["postgis", "vector", "pg_trgm", "postgis_raster"]
    assert extension_packages(names, "flask-vps/postgres:17ab5c") == [
        "postgresql-17-pgvector",
        "postgresql-17-postgis-3",
    ]
    assert extension_packages(["vector"], "postgres:16-trixie") == ["postgresql-16-pgvector"]
    assert extension_packages(["pg_trgm", "uuid-ossp"], "postgres:17") == []
    assert not INCLUDED & set(PACKAGES)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("pgvector", "Did you mean vector?"), ("posgis", "Did you mean postgis?"), ("x", "")],
)
def test_an_unknown_extension_is_a_problem(name: str, hint: str) -> None:
    (said,) = found(extensions=[name])
    assert hint in said and "neither Postgres nor Debian has" in said
    assert found(extensions=["postgis", "vector", "pg_trgm"]) == []


def test_extensions_are_created_by_the_superuser_once() -> None:
    sql = template("extensions.sql.j2", postgres_extensions=["postgis", "uuid-ossp"])
    assert "format('CREATE EXTENSION %I CASCADE', 'uuid-ossp')" in sql
    assert sql.count("WHERE NOT EXISTS") == 2
    play = (ROOT / "playbooks/parts/deploy_app.yml").read_text()
    # Before the release command.
    assert play.index("name: postgres") < play.index("Release the app")


@pytest.mark.parametrize("locale", ["de-x-icu", "de-DE", "de_DE", "en-US-u-kn-true", "C.UTF-8"])
def test_a_locale_of_icu_is_none(locale: str) -> None:
    assert found(locale=locale) == []


@pytest.mark.parametrize(
    ("locale", "write"), [("de_DE.UTF-8", "de-DE"), ("German!", "de-DE"), ("fr_FR.utf8", "fr-FR")]
)
def test_a_locale_of_the_system_is_a_problem(locale: str, write: str) -> None:
    (said,) = found(locale=locale)
    assert f"such as {write} or de-x-icu" in said


def test_a_new_database_gets_its_locale() -> None:
    values = {"postgres_name": "shop", "postgres_password": "x"}
    sql = template("database.sql.j2", postgres_locale="de-x-icu", **values)
    assert "LOCALE_PROVIDER icu ICU_LOCALE %L" in sql and ":'app', :'app', 'de')" in sql
    assert "ICU" not in template("database.sql.j2", postgres_locale="C.UTF-8", **values)


def test_keys_of_postgres_need_one() -> None:
    entry = {"extensions": ["citext"], "locale": "de-DE", "postgres_version": 17}
    said = found(database="sqlite", **entry)
    assert len(said) == 3 and all("has no effect without database: postgres" in s for s in said)


# -- version ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "version", "chosen"),
    [
        ("postgres:17-trixie@sha256:abc", 16, "postgres:16-trixie"),
        ("registry.test:5000/postgres:17.2-trixie", "15", "registry.test:5000/postgres:15-trixie"),
        ("postgres:17-trixie@sha256:abc", 17, "postgres:17-trixie@sha256:abc"),
        ("postgres:17-trixie", "", "postgres:17-trixie"),
        ("registry.test:5000/postgres", "16", "registry.test:5000/postgres:16"),
        # The digest in a tag of an image that is built here is no version.
        ("flask-vps/postgres:3f17ab5c", "17", "flask-vps/postgres:3f17ab5c"),
    ],
)
def test_an_app_chooses_the_image_of_its_version(image: str, version: Any, chosen: str) -> None:
    assert postgres_image(image, version) == chosen


@pytest.mark.parametrize(
    ("version", "images", "said"),
    [
        (16, "debian", "which has only 17"),
        (16, "archive", "one image for all apps"),
        (9, "registry", "not a supported major version"),
        ("16.2", "registry", "not a supported major version"),
    ],
)
def test_a_version_that_cannot_be_had_is_a_problem(version: Any, images: str, said: str) -> None:
    (finding,) = check_versions([("apps.shop", {"postgres_version": version})], images)
    assert said in str(finding)


def test_a_version_that_can_be_had_is_none() -> None:
    assert check_versions([("apps.shop", {"postgres_version": 16})], "registry") == []
    assert check_versions([("apps.shop", {"postgres_version": 17})], "debian") == []


def test_data_is_compared_with_the_version_of_its_app() -> None:
    seen = {
        "postgres": {"shop": "16", "blog": "16"}, "free_mb": 10**6, "docker_root": "/", "edge": "",
        "listeners": [], "certified": [], "resolved": {}, "directory": "", "deployed": [],
    }  # fmt: skip
    server = Server("web1", {}, seen, postgres=17, versions={"shop": 16})
    wrong = [f.variable for f in check_server(server) if "was made by Postgres" in f.wrong]
    assert wrong == ["web1: volume blog-db_data"]


# -- numbers ---------------------------------------------------------------------------------------


def test_connections_follow_from_processes_threads_and_workers() -> None:
    assert shop().connections == 50
    workers = [{"name": name, "command": "x"} for name in ("a", "b")]
    # Twice, since two releases run during a deploy.
    assert shop(processes=8, threads=8, workers=workers).connections == 200
    # SQLAlchemy has a pool for each process, whatever the number of requests.
    assert shop(processes=4, server="asgi", threads=100).connections == 150
    text = template(
        "compose.yml.j2",
        postgres_name="shop",
        __postgres_names=shop().names.derived(),
        postgres_memory_mb=256,
        postgres_connections=200,
        docker_health_pace={},
        __postgres_preloaded=["pg_stat_statements"],
        __postgres_image="x",
    )
    service = yaml.safe_load(text)["services"]["db"]
    assert "-cmax_connections=200" in service["command"] and service["pids_limit"] == 250
    assert "-cshared_preload_libraries=pg_stat_statements" in service["command"]


def test_a_database_too_small_for_its_connections_is_a_warning() -> None:
    app = {"name": "shop", "domains": ["a.test"], "processes": 16, "threads": 8}
    (finding,) = check_connections([("apps.shop", app)], 256)
    assert finding.warning and "may open 300 connections" in str(finding)
    assert check_connections([("apps.shop", app)], 1024) == []
    assert check_connections([("apps.shop", {**app, "database": "none"})], 256) == []
    # What every app had so far is never one.
    assert check_connections([("apps.shop", {"name": "a", "domains": ["a.test"]})], 64) == []


def test_all_threads_fit_into_the_container() -> None:
    assert shop().pids == 200
    assert shop(processes=16, threads=32).pids > 16 * 33
    # As the docs write it for Flask-SocketIO, whose clients need several threads each.
    assert shop(server="gunicorn", processes=1, threads=100).pids > 5 * 100


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"upload_mb": 600}, "upload_mb = 600: is large for memory_mb 512"),
        ({"upload_mb": 100, "memory_mb": 128}, "is large for memory_mb 128"),
        ({"processes": 32}, "needs more than 800 MB of memory, but memory_mb is 512"),
        ({"processes": 64, "threads": 256, "memory_mb": 9000}, "makes 16384 threads"),
    ],
)
def test_numbers_that_do_not_fit_are_findings(entry: dict[str, Any], said: str) -> None:
    (finding,) = check_capacity(entry, "apps.shop")
    assert said in str(finding)


def test_numbers_that_fit_are_none() -> None:
    assert check_capacity({}, "apps.shop") == []
    assert check_capacity({"upload_mb": 600, "memory_mb": 2048}, "apps.shop") == []
    # What is not a number is reported by the type check.
    assert check_capacity({"upload_mb": "many"}, "apps.shop") == []
    assert "memory_mb 64" in str(check_capacity({"upload_mb": 40}, "apps.shop", 64)[0])


# -- containers ------------------------------------------------------------------------------------


def release(**entry: Any) -> dict[str, Any]:
    """Render the compose file of a release."""
    templates = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROOT / "roles/app/templates"), trim_blocks=True
    )
    image = {"Config": {"Env": ["PATH=/own/bin:/bin"], "Cmd": ["run"]}}
    templates.filters |= {
        "exec_path": exec_path, "to_json": json.dumps, "without_edge_variables": lambda _: {},
    }  # fmt: skip
    app = shop(**entry)
    values = {
        "app_entry": app.entry(),
        "docker_health_pace": {},
        "__app_built": {"images": [image]},
        "__app_model": app.derived({"POSTGRES_PASSWORD": "x"}),
    }
    return yaml.safe_load(templates.get_template("release/compose.yml.j2").render(values))


def test_bodies_are_buffered_on_the_disk() -> None:
    """The folder /tmp is in the memory that the container may use."""
    web = release()["services"]["web"]
    mounts = {m["target"]: m["source"] for m in web["volumes"] if isinstance(m, dict)}
    assert mounts[web["environment"]["TMPDIR"]] == "./tmp"
    assert web["tmpfs"] == ["/tmp"] and web["pids_limit"] == 200  # noqa: S108
    own = release(volumes=["/var/tmp"])["services"]["web"]["volumes"]  # noqa: S108
    assert [m["type"] for m in own if isinstance(m, dict) and m["target"] == "/var/tmp"] == [  # noqa: S108
        "volume"
    ]


def test_an_image_of_its_own_has_the_secrets_in_docker_exec() -> None:
    web = release(dockerfile="Dockerfile", port=80)["services"]["web"]
    assert web["environment"]["PATH"] == "/opt/flask-vps/exec:/own/bin:/bin"
    assert "./runtime/entrypoint:/opt/flask-vps/exec/sh:ro" in web["volumes"]
    # Our image has both already.
    plain = release()["services"]["web"]
    assert "PATH" not in plain["environment"]
    assert not [m for m in plain["volumes"] if "exec" in str(m)]


def test_files_and_secrets_are_mounted() -> None:
    project = release(files={"instance/config.py": "x"}, database_url_scheme="postgresql+psycopg")
    mounts = project["services"]["web"]["volumes"]
    assert {
        "type": "bind",
        "source": "./files/0-config.py",
        "target": "/app/instance/config.py",
        "read_only": True,
        "bind": {"create_host_path": False},
    } in mounts
    file = project["secrets"]["DATABASE_URL"]["file"]
    assert file == "../../secrets/DATABASE_URL.postgresql+psycopg"
