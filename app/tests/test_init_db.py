"""Preparing the database."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import MakeApp, leave_message
from flask import Flask
from sqlalchemy import create_engine, inspect, text

from my_flask_webpage import create_app
from my_flask_webpage.content import ContentError
from my_flask_webpage.extensions import db
from my_flask_webpage.models import Image, Message, Project, User
from my_flask_webpage.setup import database
from my_flask_webpage.setup.database import init_db

RESOURCES = Path(database.__file__).parents[1] / "resource"


def rows(app: Flask) -> dict[str, list[tuple]]:
    with app.app_context():
        return {
            table.name: sorted(tuple(map(repr, row)) for row in db.session.execute(table.select()))
            for table in db.metadata.sorted_tables
        }


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


@pytest.fixture
def resources(tmp_path: Path) -> Path:
    """A copy of the owner's files that a test may change."""
    return Path(shutil.copytree(RESOURCES, tmp_path / "resource"))


def edit(resources: Path, name: str, change) -> None:
    """Change one of the files with a function that gets its parsed content."""
    file = resources / name
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def project(app: Flask, slug: str) -> Project:
    return db.session.scalars(db.select(Project).filter_by(slug=slug)).one()


def test_first_run_makes_tables_projects_and_pictures(empty_app: Flask):
    report = init_db(empty_app)
    assert (report.before, report.after) == (None, "0003")
    assert (report.projects.added, report.images.added) == (6, 9)
    assert str(report).count("\n") == 0
    client = empty_app.test_client()
    assert client.get("/readyz").status_code == 200
    with empty_app.app_context():
        for image in db.session.scalars(db.select(Image)):
            for width in image.widths:
                response = client.get(f"/media/{image.digest}-{width}.webp")
                assert response.status_code == 200
                response.close()


def test_second_run_changes_nothing_and_keeps_messages_and_users(app: Flask):
    leave_message(app.test_client())
    before = rows(app)
    assert before["user"]
    report = init_db(app)
    assert report.before == report.after == "0003"
    for tally in (report.projects, report.images):
        assert (tally.added, tally.updated, tally.hidden) == (0, 0, 0)
    assert report.messages == 1
    assert rows(app) == before


def test_models_and_migrations_agree(app: Flask):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with app.app_context(), db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, db.metadata) == []
        # Negative control: the comparison notices a column that no migration made.
        db.metadata.tables["message"].append_column(db.Column("extra", db.Integer))
        try:
            assert len(compare_metadata(context, db.metadata)) == 1
        finally:
            extra = db.metadata.tables["message"].c.extra
            db.metadata.tables["message"]._columns.remove(extra)


def test_run_updates_what_the_file_changes_and_hides_what_leaves_it(
    make_app: MakeApp, resources: Path
):
    app = make_app()
    edit(
        resources, "projects.json", lambda value: value["projects"][0].update(title="Ebb and Flow")
    )
    edit(resources, "projects.json", lambda value: value["projects"].pop(2))
    edit(resources, "images.json", lambda value: value["images"].pop(4))
    app.config["RESOURCE_DIR"] = str(resources)
    report = init_db(app)
    assert (report.projects.hidden, report.projects.added) == (1, 0)
    page = app.test_client().get("/projects/").text
    assert "Ebb and Flow" in page
    assert "Lantern" not in page
    assert app.test_client().get("/projects/lantern").status_code == 404
    # Nothing was deleted: once it is in the file again, it is on the site again.
    app.config["RESOURCE_DIR"] = str(RESOURCES)
    init_db(app)
    page = app.test_client().get("/projects/").text
    assert "Lantern" in page
    assert "Ebb and Flow" not in page


def test_rows_of_the_internal_area_are_kept(app: Flask):
    with app.app_context():
        values = {"title": "Own", "period": "", "summary": "", "position": 9, "edited": True}
        db.session.add(Project(slug="own", **values))
        changed = project(app, "lantern")
        changed.title, changed.edited = "Renamed here", True
        away = project(app, "tidewater")
        away.hidden = away.edited = True
        moved = project(app, "plain-maps")
        moved.position, moved.moved = 0, True
        db.session.commit()
    before = rows(app)
    report = init_db(app)
    assert (report.projects.kept, report.projects.unchanged) == (2, 4)
    assert rows(app) == before
    # Negative control: `overwrite` updates edited rows, but only those that came from the files.
    report = init_db(app, overwrite=True)
    assert report.projects.updated == 3
    page = app.test_client().get("/projects/").text
    assert "Renamed here" not in page
    assert "Tidewater" in page
    assert "Own" in page
    assert page.index("Tidewater") < page.index("Plain Maps")


def test_a_project_of_the_internal_area_keeps_a_slug_that_the_file_wants(
    app: Flask, resources: Path
):
    with app.app_context():
        values = {"title": "Mine", "period": "", "summary": "", "position": 9, "edited": True}
        db.session.add(Project(slug="wanted", **values))
        db.session.commit()
    edit(
        resources, "projects.json", lambda v: v["projects"][0].update(slug="wanted", title="Theirs")
    )
    edit(resources, "images.json", lambda v: [i.update(project="wanted") for i in v["images"][:1]])
    edit(resources, "images.json", lambda v: v["images"].pop(1))
    app.config["RESOURCE_DIR"] = str(resources)
    report = init_db(app)
    assert report.projects.kept == 1
    page = app.test_client().get("/projects/wanted").text
    assert "Mine" in page
    assert "<figure" not in page


LEGACY = [
    "CREATE TABLE project (id INTEGER NOT NULL, slug VARCHAR(80) NOT NULL, title VARCHAR(120) NOT "
    "NULL, period VARCHAR(40) NOT NULL, summary TEXT NOT NULL, link VARCHAR(500) NOT NULL, "
    "position INTEGER NOT NULL, CONSTRAINT pk_project PRIMARY KEY (id), CONSTRAINT uq_project_slug "
    "UNIQUE (slug))",
    "CREATE TABLE message (id INTEGER NOT NULL, name VARCHAR(80) NOT NULL, body VARCHAR(1000) NOT "
    "NULL, created_at TIMESTAMP WITH TIME ZONE NOT NULL, CONSTRAINT pk_message PRIMARY KEY (id))",
    "INSERT INTO project (slug, title, period, summary, link, position) "
    "VALUES ('lantern', 'Old', '', 'Old', 'https://example.org/old', 1)",
    "INSERT INTO project (slug, title, period, summary, link, position) "
    "VALUES ('own', 'Own', '2020', 'Mine', 'https://example.org/own', 2)",
    "INSERT INTO message (name, body, created_at) "
    "VALUES ('Ada', 'Hello', '2026-01-01 00:00:00.000000+00:00')",
]


def make_legacy(url: str, statements: list[str]) -> None:
    """Create the tables as the first releases did, without migrations."""
    engine = create_engine(url)
    for statement in statements:
        if engine.dialect.name == "postgresql":
            statement = statement.replace("id INTEGER NOT NULL", "id SERIAL NOT NULL")
        else:
            statement = statement.replace("TIMESTAMP WITH TIME ZONE", "DATETIME")
            statement = statement.replace("000000+00:00", "000000")
        with engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


def test_database_from_before_migrations_is_taken_over_without_loss(
    make_empty_app: MakeApp, database_url: str
):
    make_legacy(database_url, LEGACY)
    app = make_empty_app()
    assert app.test_client().get("/readyz").status_code == 503
    report = init_db(app)
    assert (report.before, report.after) == (None, "0003")
    assert (report.projects.added, report.projects.updated) == (5, 1)
    assert report.messages == 1
    client = app.test_client()
    assert "Hello" in client.get("/messages").text
    page = client.get("/projects/own").text
    assert 'href="https://example.org/own"' in page
    assert "Mine" in page
    with app.app_context():
        assert project(app, "lantern").id == 1
        assert project(app, "lantern").title == "Lantern"
    before = rows(app)
    init_db(app)
    assert rows(app) == before


def test_half_a_database_from_before_migrations_is_completed(
    make_empty_app: MakeApp, database_url: str
):
    make_legacy(database_url, [LEGACY[1], LEGACY[4]])
    app = make_empty_app()
    init_db(app)
    assert "Hello" in app.test_client().get("/messages").text


def test_release_from_before_the_migration_goes_on_reading_and_writing(app: Flask):
    """All columns that its queries use still exist, and all others have a default."""
    with app.app_context():
        link = db.session.scalar(text("SELECT link FROM project WHERE slug = 'tidewater'"))
        assert link == "https://example.org/tidewater"
        db.session.execute(
            text(
                "INSERT INTO project (slug, title, period, summary, link, position) "
                "VALUES ('old', 'Old', '', '', '', 9)"
            )
        )
        db.session.commit()
    assert "Old" in app.test_client().get("/projects/").text


def test_schema_of_a_newer_release_is_left_alone_and_served(app: Flask):
    with app.app_context():
        db.session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        db.session.commit()
    report = init_db(app)
    assert report.after == "9999"
    assert app.test_client().get("/readyz").status_code == 200


@pytest.mark.parametrize("revision", ["0001", None])
def test_not_ready_until_the_schema_is_at_the_head(app: Flask, revision: str | None):
    with app.app_context():
        db.session.execute(text("DELETE FROM alembic_version"))
        if revision:
            row = {"revision": revision}
            db.session.execute(text("INSERT INTO alembic_version VALUES (:revision)"), row)
        db.session.commit()
    assert app.test_client().get("/readyz").status_code == 503


def test_migrations_go_back_and_forth(app: Flask):
    runner = app.test_cli_runner()
    before = rows(app)["message"]
    assert runner.invoke(args=["db", "downgrade", "0001"]).exit_code == 0
    assert runner.invoke(args=["db", "upgrade"]).exit_code == 0
    assert rows(app)["message"] == before
    assert init_db(app).images.added == 9


def test_wrong_files_change_nothing_and_every_mistake_is_named(app: Flask, resources: Path):
    before = rows(app)

    def spoil(value):
        value["projects"][1]["title"] = ""
        value["projects"][2]["links"] = [{"label": "x", "url": "javascript:alert(1)"}]
        value["projects"][3]["surprise"] = True
        value["site"]["email"] = "nowhere"

    edit(resources, "projects.json", spoil)
    edit(resources, "images.json", lambda value: value["images"][0].pop("alt"))
    app.config["RESOURCE_DIR"] = str(resources)
    with pytest.raises(ContentError) as caught:
        init_db(app)
    for place in (
        "resource/projects.json: $.projects[1].title: ",
        "resource/projects.json: $.projects[2].links[0].url: ",
        "resource/projects.json: $.projects[3]: ",
        "resource/projects.json: $.site.email: ",
        "resource/images.json: $.images[0]: 'alt' is a required property",
    ):
        assert any(line.startswith(place) for line in caught.value.problems), place
    assert len(caught.value.problems) == 5
    assert rows(app) == before


def test_contradictions_between_the_files_are_named(app: Flask, resources: Path):
    def spoil(value):
        value["projects"][1]["slug"] = "tidewater"

    edit(resources, "projects.json", spoil)
    edit(resources, "images.json", lambda value: value["images"].append(value["images"][0]))
    edit(resources, "images.json", lambda value: value["images"][5].update(file="absent.jpg"))
    app.config["RESOURCE_DIR"] = str(resources)
    with pytest.raises(ContentError) as caught:
        init_db(app)
    assert "$.projects[1].slug: duplicate slug 'tidewater'" in str(caught.value)
    assert "$.images[2].project: unknown project 'paper-trail'" in str(caught.value)
    assert "$.images[5].file: resource/images/absent.jpg does not exist" in str(caught.value)
    assert "$.images[9].file: duplicate picture 'tidewater-harbour.jpg'" in str(caught.value)


def test_picture_that_is_none_is_named(app: Flask, resources: Path):
    before = rows(app)
    (resources / "images" / "lantern-night.jpg").write_bytes(b"<svg/>")
    app.config["RESOURCE_DIR"] = str(resources)
    with pytest.raises(
        ContentError, match=r"\$\.images\[4\]\.file: lantern-night\.jpg: This is not"
    ):
        init_db(app)
    assert rows(app) == before


def test_failure_in_the_database_changes_nothing(
    empty_app: Flask, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments):
        arguments[0].execute(text("SELECT nothing FROM nowhere"))

    monkeypatch.setattr(database, "save_images", fail)
    with pytest.raises(database.SQLAlchemyError):
        init_db(empty_app)
    # Not even the migrations were applied.
    assert tables(database_url) == set()


def test_several_runs_at_once_all_succeed(make_empty_app: MakeApp):
    apps = [make_empty_app() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(init_db, apps))
    assert sorted(report.projects.added for report in reports) == [0, 0, 0, 6]
    with apps[0].app_context():
        count = db.select(db.func.count())
        assert db.session.scalar(count.select_from(Project)) == 6
        assert db.session.scalar(count.select_from(Image)) == 9
        assert db.session.scalar(count.select_from(Message)) == 0


def environment(url: str, media_dir: Path, **environ: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "APP_ENV": "development",
        "DATABASE_URL": url,
        "MEDIA_DIR": str(media_dir),
        **environ,
    }


def run(*arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


MODULE = ("-m", "my_flask_webpage.setup.init_db")
COMMAND = ("-m", "flask", "--app", "my_flask_webpage", "init-db")


def test_both_commands_do_the_same_and_say_it_in_one_line(database_url: str, media_dir: Path):
    environ = environment(database_url, media_dir)
    for command, added in ((MODULE, 6), (COMMAND, 0), (MODULE, 0)):
        result = run(*command, **environ)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("init_db: ")
        assert result.stdout.count("\n") == 1
        assert f"projects: {added} added" in result.stdout
        assert result.stderr == ""


@pytest.mark.parametrize("command", [MODULE, COMMAND])
def test_both_commands_name_mistakes_and_fail(
    server, database_url: str, media_dir: Path, resources: Path, command: tuple[str, ...]
):
    (resources / "projects.json").write_text('{"site": ')
    edit(resources, "images.json", lambda value: value["images"][0].pop("alt"))
    environ = environment(database_url, media_dir, RESOURCE_DIR=str(resources))
    result = run(*command, **environ)
    assert result.returncode != 0
    assert "resource/projects.json: is not valid JSON: " in result.stderr
    assert "resource/images.json: $.images[0]: 'alt' is a required property" in result.stderr
    assert "Traceback" not in result.stderr
    assert tables(database_url) == set()


def test_command_fails_readably_when_the_database_is_away(media_dir: Path):
    nowhere = "postgres://nobody:hidden@127.0.0.1:1/none"
    result = run(*MODULE, "--wait", "1.5", **environment(nowhere, media_dir))
    assert result.returncode == 1
    assert "init_db: failed, nothing was changed" in result.stderr
    assert "127.0.0.1" in result.stderr
    assert "hidden" not in result.stderr
    assert "Traceback" not in result.stderr


def test_command_fails_readably_when_the_media_folder_is_no_folder(tmp_path: Path):
    (tmp_path / "file").write_text("")
    environ = environment(f"sqlite:///{tmp_path / 'new.db'}", tmp_path / "file")
    result = run(*MODULE, **environ)
    assert result.returncode == 1
    assert "MEDIA_DIR" in result.stderr
    assert "Traceback" not in result.stderr


KILL = """
import os, signal, sys
from my_flask_webpage import app
from my_flask_webpage.setup import database
save = database.save_images
def save_and_die(*arguments):
    save(*arguments)
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
database.save_images = save_and_die
database.init_db(app)
"""


def test_killed_run_leaves_nothing_half_done(database_url: str, media_dir: Path):
    environ = environment(database_url, media_dir)
    killed = run("-c", KILL, "kill", **environ)
    assert killed.returncode == -signal.SIGKILL
    # Migrations and rows were written, but not committed.
    assert tables(database_url) == set()
    # The next run does not wait for the killed one, and succeeds. It is the negative control, too:
    # the same program does write if it is not killed.
    done = run("-c", KILL, "live", **environ)
    assert done.returncode == 0, done.stderr
    assert {"project", "image", "alembic_version"} <= tables(database_url)


RESET = ("--reset",)


def test_reset_asks_and_no_means_no(template: str, server, media_dir: Path):
    url = server.create(template)
    environ = environment(url, media_dir)
    for answer in ("n\n", ""):
        result = run(*MODULE, *RESET, stdin=answer, **environ)
        assert result.returncode != 0
        assert "Drop all tables" in result.stdout
        assert users(url) == 1
    result = run(*MODULE, *RESET, stdin="y\n", **environ)
    assert result.returncode == 0, result.stderr
    assert users(url) == 0
    assert "projects: 6 added" in result.stdout


def test_reset_in_production_needs_the_flag(template: str, server, media_dir: Path):
    url = server.create(template)
    environ = environment(
        url, media_dir, APP_ENV="production", SECRET_KEY=secrets.token_urlsafe(48)
    )
    result = run(*MODULE, *RESET, stdin="y\n", **environ)
    assert result.returncode == 1
    assert "--yes-destroy-data" in result.stderr
    assert users(url) == 1
    result = run(*MODULE, *RESET, "--yes-destroy-data", **environ)
    assert result.returncode == 0, result.stderr
    assert users(url) == 0


def users(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        count = connection.execute(db.select(db.func.count()).select_from(User.__table__)).scalar()
    engine.dispose()
    return count or 0


def test_reset_removes_pictures_that_nobody_shows(make_app: MakeApp, tmp_path: Path):
    app = make_app(MEDIA_DIR=str(tmp_path))
    init_db(app)
    (tmp_path / ("f" * 32 + ".jpg")).write_bytes(b"")
    (tmp_path / ("f" * 32 + "-480.webp")).write_bytes(b"")
    init_db(app)
    assert len(list(tmp_path.glob("f*.webp"))) >= 1
    init_db(app, reset=True)
    assert not (tmp_path / ("f" * 32 + "-480.webp")).exists()
    assert len(list(tmp_path.glob("*.jpg"))) == 9


def test_app_starts_without_touching_database_or_disk(tmp_path: Path):
    create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'x.db'}"})
    assert list(tmp_path.iterdir()) == []
