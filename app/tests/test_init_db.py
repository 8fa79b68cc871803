"""Preparing the database."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import MakeApp, leave_message
from flask import Flask

from my_flask_webpage.extensions import db
from my_flask_webpage.models import Message, Project
from my_flask_webpage.setup import init_db as module
from my_flask_webpage.setup.init_db import init_db


def rows(app: Flask) -> dict[str, list[tuple]]:
    with app.app_context():
        return {
            table.name: [tuple(row) for row in db.session.execute(table.select())]
            for table in db.metadata.sorted_tables
        }


def test_first_run_creates_tables_and_projects(empty_app: Flask):
    report = init_db(empty_app)
    assert report.created_tables == ("message", "project")
    assert (report.added, report.updated, report.unchanged) == (4, 0, 0)
    assert str(report).count("\n") == 0


def test_second_run_changes_nothing_and_keeps_messages(app: Flask):
    leave_message(app.test_client())
    before = rows(app)
    report = init_db(app)
    assert report.created_tables == ()
    assert (report.added, report.updated, report.unchanged) == (0, 0, 4)
    assert report.messages == 1
    assert rows(app) == before


def test_run_mends_sample_projects_and_leaves_other_projects_alone(app: Flask):
    with app.app_context():
        db.session.scalars(db.select(Project).filter_by(slug="lantern")).one().title = "Old"
        db.session.add(
            Project(slug="own", title="Own", period="", summary="", link="/", position=9)
        )
        db.session.commit()
    report = init_db(app)
    assert (report.added, report.updated, report.unchanged) == (0, 1, 3)
    assert "Own" in app.test_client().get("/").text


def test_failure_changes_nothing(app: Flask, monkeypatch: pytest.MonkeyPatch):
    before = rows(app)
    bad = [{**module.load_resource("projects.json")[0], "title": "New"}, {"slug": "incomplete"}]
    monkeypatch.setattr(module, "load_resource", lambda name: bad)
    with pytest.raises(module.SQLAlchemyError):
        init_db(app)
    assert rows(app) == before


def test_several_runs_at_once_all_succeed(make_app: MakeApp):
    apps = [make_app() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(init_db, apps))
    assert sorted(report.added for report in reports) == [0, 0, 0, 4]
    with apps[0].app_context():
        assert db.session.scalar(db.select(db.func.count()).select_from(Project)) == 4
        assert db.session.scalar(db.select(db.func.count()).select_from(Message)) == 0


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "my_flask_webpage.setup.init_db", *arguments],
        env={"APP_ENV": "development", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_says_in_one_line_what_it_did(database_url: str):
    for added in (4, 0):
        result = run(DATABASE_URL=database_url)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("\n") == 1
        assert f"{added} added" in result.stdout
        assert result.stderr == ""


def test_command_fails_readably_when_the_database_is_away():
    result = run("--wait", "1.5", DATABASE_URL="postgres://nobody:hidden@127.0.0.1:1/none")
    assert result.returncode == 1
    assert "init_db: failed" in result.stderr
    assert "127.0.0.1" in result.stderr
    assert "hidden" not in result.stderr
    assert "Traceback" not in result.stderr
