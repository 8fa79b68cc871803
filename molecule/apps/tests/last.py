"""One app is added, one changed and one removed; all others stay untouched."""

import json
import os
from pathlib import Path

import apps
from conftest import Site


def test_the_others_were_left_alone(site: Site) -> None:
    before = json.loads(Path(os.environ["SITE_STATE"]).read_text())
    now = apps.identities(site)
    assert site.request().status == 200
    mine = ("my_flask_webpage-", "edge-", "shortener-db-")
    kept = {name for name in before if name.startswith(mine)}
    assert len(kept) == 7
    assert {name: now.get(name) for name in kept} == {name: before[name] for name in kept}
    # Negative control: the same comparison notices the changed app.
    changed = {name for name in before if name.startswith("shortener-") and "-web-" in name}
    assert changed
    assert not changed & set(now)


def test_the_changed_app_has_its_new_version_domain_and_old_rows(site: Site) -> None:
    assert apps.ask(site, "shortener", "/static/style.css").body.strip() == "body { color: navy; }"
    assert apps.ask(site, "go", "/docs").headers["location"] == "https://example.org/docs"


def test_an_app_of_its_own_dockerfile_is_served(site: Site) -> None:
    claims = {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}
    answer = json.loads(apps.ask(site, "echo", headers=claims).body)
    assert answer["greeting"] == "hello"
    assert answer["host"] == f"echo.localhost:{site.https_port}"
    assert answer["scheme"] == "https"
    # The edge sets the client's address; headers of the client itself are ignored.
    assert "192.0.2.1" not in answer["forwarded_for"]
    assert answer["uid"] != 0


def test_the_removed_app_is_gone_and_its_data_are_kept(site: Site) -> None:
    assert not [name for name in site.containers() if name.startswith("notes-")]
    assert not site.served("notes.localhost")
    # Negative control: another app is served.
    assert site.served("echo.localhost")
    files = site.on_server("find", "/var/lib/docker/volumes", "-path", "*/notes.*/_data/*")
    assert "/notes.data/_data/app.db" in files
    assert "/notes.app-uploads/_data/a" in files
    # There is one dump only, although two runs had `state: absent`.
    folder = "/opt/flask-vps/apps/notes/dumps"
    (dump,) = site.on_server("ls", "-A", folder).split()
    assert dump.endswith("-before-removal.dump")
    assert site.on_server("head", "-c", "15", f"{folder}/{dump}") == "SQLite format 3"


def test_a_setup_command_does_not_run_again(site: Site) -> None:
    """It would have dropped the table."""
    assert json.loads(apps.ask(site, "diary").body)["pages"] == ["Monday"]
    # Negative control: this is another release, made after a dump of the file in the volume.
    folder = "/opt/flask-vps/apps/diary"
    assert len(site.on_server("ls", f"{folder}/releases").split()) == 2
    dumps = site.on_server("ls", f"{folder}/dumps").split()
    assert dumps and all(name.endswith(".sqlite.tar") for name in dumps)
    listed = site.on_server("tar", "-tf", f"{folder}/dumps/{dumps[-1]}").split()
    assert listed == ["diary.app-instance/_data/diary.sqlite"]
