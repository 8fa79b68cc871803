"""One app added, one changed, one removed, and nobody else touched."""

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
    # The negative control: the same comparison sees the app that did change.
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
    # The edge tells who asks; what a client says about itself does not count.
    assert "192.0.2.1" not in answer["forwarded_for"]
    assert answer["uid"] != 0


def test_the_removed_app_is_gone_and_its_data_are_kept(site: Site) -> None:
    assert not [name for name in site.containers() if name.startswith("notes-")]
    assert not site.served("notes.localhost")
    # The negative control: the same question about an app that is there.
    assert site.served("echo.localhost")
    files = site.on_server("find", "/var/lib/docker/volumes", "-path", "*/notes.*/_data/*")
    assert "/notes.data/_data/app.db" in files
    assert "/notes.app-uploads/_data/a" in files
    # Removed once and for all, although two runs wanted it.
    folder = "/opt/flask-vps/apps/notes/dumps"
    (dump,) = site.on_server("ls", "-A", folder).split()
    assert dump.endswith("-before-removal.dump")
    assert site.on_server("head", "-c", "15", f"{folder}/{dump}") == "SQLite format 3"
