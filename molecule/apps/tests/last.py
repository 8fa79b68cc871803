"""Some apps are added, two changed and one removed; the others stay untouched."""

import dataclasses
import json
import os
import shlex
from pathlib import Path
from typing import Any

import apps
from conftest import Answer, Site


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


def test_builds_read_a_private_repository_with_a_key_or_with_the_operator_s_agent(
    site: Site,
) -> None:
    for app in ("echo", "quart"):
        assert json.loads(apps.ask(site, app).body)["books"] == ["Walden", "Emma"]
    # Negative control: without either, the repository is closed.
    command = "ssh -oBatchMode=yes -oStrictHostKeyChecking=accept-new git@127.0.0.1 2>&1; echo $?"
    assert "Permission denied (publickey" in site.on_server("env", "-i", "sh", "-c", command)


def test_no_key_of_a_build_is_left_behind(site: Site) -> None:
    lines = (Path(os.environ["SITE_DIR"]) / "deploy_key").read_text().splitlines()
    key = shlex.quote(lines[3])
    assert lines[3] not in Path(os.environ["SITE_LOG"]).read_text()
    look = f"docker export {apps.web(site, 'echo')} | grep -cF {key}; grep -rlF {key}"
    left = site.on_server("sh", "-c", f"{look} /opt/flask-vps /root /tmp /home; true")
    assert left.strip() == "0"
    # Negative control: the same search finds the key in a file.
    copy = f"echo {key} >/root/copy; grep -rlF {key} /root; rm /root/copy"
    assert site.on_server("sh", "-c", copy).strip() == "/root/copy"


def test_an_old_domain_redirects(site: Site) -> None:
    answer = site.named("old-echo.localhost").request("/a?b=c", host="old-echo.localhost")
    assert answer.status == 301
    assert answer.headers["location"] == f"https://echo.localhost:{site.https_port}/a?b=c"
    plain = site.request_plain("/a?b=c", "old-echo.localhost")
    assert plain.status == 301
    assert plain.headers["location"].startswith("https://old-echo.localhost")


def club(site: Site, host: str = "club.localhost", path: str = "/", **options: Any) -> Answer:
    """Send a request to the app with a wildcard and a certificate of its own."""
    there = dataclasses.replace(site, domain=host, ca=Path(os.environ["SITE_DIR"]) / "club.pem")
    return there.request(path, **options)


LOGIN = {"Authorization": "Basic YW5uYTpzZWNyZXQ="}


def test_a_wildcard_serves_every_member_who_has_the_password(site: Site) -> None:
    for host in ("club.localhost", "anna.club.localhost", "ben.club.localhost"):
        assert club(site, host).status == 401
        assert f"<h1>{host.partition('.')[0]}</h1>" in club(site, host, headers=LOGIN).body
    assert club(site, path="/healthz").body == "well"
    assert club(site, path="/api/x").body == "x"
    # The app may read these in another way than nginx.
    assert club(site, path="/inner/../api/x").status == 401
    assert club(site, path="/inner/..%2fapi/x").status == 401
    assert club(site, "www.club.localhost").status == 301


def test_no_hash_of_a_password_is_in_what_docker_or_a_run_shows(site: Site) -> None:
    part = "ltjgWl6579NluT"
    assert part not in json.dumps(site.containers())
    assert part not in Path(os.environ["SITE_LOG"]).read_text()
    # Negative control: nginx has it.
    assert part in site.on_server(
        "docker", "exec", "edge-nginx-1", "cat", "/etc/nginx/conf.d/flask-vps-club.users"
    )


def test_a_site_has_its_headers_compression_and_error_pages(site: Site) -> None:
    answer = club(site, headers={**LOGIN, "Accept-Encoding": "gzip"})
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-security-policy"] == "default-src 'self'"
    # Another site might measure it, unless the browser says who asks.
    assert "content-encoding" not in answer.headers
    own = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": "same-origin"}
    assert club(site, headers=LOGIN | own).headers["content-encoding"] == "gzip"
    answer = club(site, method="POST", body="x" * (2 << 20), headers=LOGIN)
    assert (answer.status, "more than the club can carry" in answer.body) == (413, True)


def test_lines_of_the_entry_are_used(site: Site) -> None:
    assert club(site, path="/robots.txt", headers=LOGIN).body == "Disallow"
    assert club(site, path="/inner/closed/x", headers=LOGIN).status == 403
    assert club(site, path="/inner/x", headers=LOGIN).body == "x"


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
