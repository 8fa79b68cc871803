"""Links, hidden files and git repositories in a source expose nothing and run nothing."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import hostile
import pytest
import yaml
from conftest import Answer, Site

PROJECT = Path(__file__).parents[3]
PROBE = PROJECT / "tests/apps/probe"
INVENTORY = PROJECT / "molecule/hostile/inventory/hosts.yml"
ENTRY = yaml.safe_load(INVENTORY.read_text())["servers"]["hosts"]["dev"]["scenario_probe"]
STATIC = "/opt/flask-vps/edge/static"


@pytest.fixture
def probe(site: Site) -> Site:
    return site.named(hostile.PROBE)


def static(probe: Site, name: str) -> Answer:
    return probe.request(f"/static/{name}")


@pytest.mark.parametrize("name", ["linked.css", "sub/linked.css"])
def test_links_within_the_source_are_served_as_files(probe: Site, name: str) -> None:
    answer = static(probe, name)
    assert (answer.status, answer.body) == (200, static(probe, "style.css").body)


def test_so_are_links_to_folders(probe: Site) -> None:
    assert static(probe, "shared/page.css").body == "body { margin: 0; }\n"


def test_published_files_are_plain_and_for_everybody_to_read(site: Site) -> None:
    folder = f"{STATIC}/probe/current/"
    assert site.on_server("find", folder, "!", "-type", "f", "!", "-type", "d") == ""
    assert site.on_server("find", folder, "-type", "f", "!", "-perm", "0644") == ""
    assert site.on_server("find", folder, "-type", "f", "-links", "+1") == ""
    assert site.on_server("find", folder, "-type", "d", "!", "-perm", "0755") == ""
    assert site.on_server("find", folder, "-name", ".ht*") == ""


def test_serves_no_hidden_files_except_well_known(probe: Site, site: Site) -> None:
    assert "Contact:" in static(probe, ".well-known/security.txt").body
    # As older versions published them.
    hidden = [".htpasswd", "sub/.secret", ".git/config", ".well-known/.secret"]
    for name in hidden:
        write(site, f"{STATIC}/probe/current/{name}")
    try:
        for name in [*hidden, "..style", "sub/%2esecret", "%2Ehtpasswd"]:
            answer = static(probe, name)
            assert answer.status == 404, name
            assert "nobody" not in answer.body, name
    finally:
        remove(site, *(f"{STATIC}/probe/current/{name}" for name in [*hidden, ".git"]))


def test_nginx_follows_no_link_below_the_static_files(probe: Site, site: Site) -> None:
    current = f"{STATIC}/probe/current"
    links = {
        "passwd.txt": "/etc/passwd",
        "sub/conf": "/etc/nginx/conf.d",
        "up.css": "style.css",
        "other": "/srv/static/my_flask_webpage/current",
    }
    for name, target in links.items():
        site.on_server("ln", "-s", target, f"{current}/{name}")
    try:
        for path in ("passwd.txt", "sub/conf/default.conf", "up.css", "other/style.css"):
            answer = static(probe, path)
            # nginx passes the request to the app, which has no such file.
            assert answer.status == 404, path
            assert "root:" not in answer.body, path
        # Negative control: the file is served by its own path.
        assert static(probe, "style.css").status == 200
    finally:
        remove(site, *(f"{current}/{name}" for name in links))


def test_files_of_an_earlier_release_are_still_served(probe: Site, site: Site) -> None:
    folder, link = f"{STATIC}/probe/earlier", f"{STATIC}/probe/kept-5"
    before = site.on_server("sh", "-c", f"readlink {link} || true").strip()
    write(site, f"{folder}/earlier.css")
    site.on_server("ln", "-sfn", "earlier", link)
    try:
        assert static(probe, "earlier.css").body == "nobody\n"
        # Links inside an earlier release are not followed either.
        site.on_server("ln", "-s", "earlier.css", f"{folder}/link.css")
        assert static(probe, "link.css").status == 404
    finally:
        remove(site, folder, link)
        if before:
            site.on_server("ln", "-s", before, link)


def test_the_app_is_asked_for_what_nginx_does_not_find(probe: Site) -> None:
    answer = static(probe, "not/there.css")
    assert answer.status == 404
    assert "nginx" not in answer.body
    # A file that only the app has, such as an upload or a file of an extension.
    assert probe.request("/static/upload/report.txt").body == "from the app\n"
    assert probe.request("/static/upload/echo", "POST", "seven").body == "5\n"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("script.mjs", "text/javascript"),
        ("site.webmanifest", "application/manifest+json"),
        ("module.wasm", "application/wasm"),
        ("picture.avif", "image/avif"),
    ],
)
def test_media_types_that_browsers_insist_on(probe: Site, name: str, kind: str) -> None:
    answer = static(probe, name)
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == kind


def write(site: Site, path: str) -> None:
    folder = path.rpartition("/")[0]
    site.on_server("sh", "-c", f"mkdir -p {folder} && echo nobody > {path}")


def remove(site: Site, *paths: str) -> None:
    site.on_server("rm", "-rf", *paths)


def test_a_source_that_git_would_run_or_that_leads_out_is_refused(
    site: Site, tmp_path: Path
) -> None:
    before = state(site)
    bare, links = tmp_path / "bare", tmp_path / "links"
    for folder in (bare, links):
        shutil.copytree(PROBE, folder, symlinks=True)
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@n.dev"]
    # The files of a bare repository, whose configuration names a program.
    mark, program = tmp_path / "was-run", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    subprocess.run([*git, "init", "--quiet", "--bare", bare / "made"], check=True)
    for part in ("HEAD", "objects", "refs"):
        (bare / "made" / part).rename(bare / part)
    (bare / "config").write_text(
        f"[core]\n\tbare = false\n\tworktree = .\n\tfsmonitor = {program}\n"
    )
    answer = deploy(bare, "--check")
    assert f"{bare} looks like a git repository" in answer
    assert not mark.exists()
    # A git address whose folder `static` is a link to another app's release.
    shutil.rmtree(links / "static")
    (links / "static").symlink_to("/opt/flask-vps/apps/my_flask_webpage/current")
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=one"]):
        subprocess.run([*git, *arguments], cwd=links, check=True)
    answer = deploy(f"file://{links}")
    assert "apps.probe.static: static is a link to /opt/flask-vps/apps/my_flask" in answer
    assert state(site) == before


def state(site: Site) -> str:
    """List the running containers and the app's files on the server."""
    return site.on_server("sh", "-c", "docker ps -q; find /opt/flask-vps/apps/probe | sort")


def deploy(source: Path | str, *options: str) -> str:
    """Deploy the probe from another source, which must fail, and return the output."""
    folders = os.environ["SITE_INVENTORIES"].split(",")
    command = ["ansible-playbook", "playbooks/deploy.yml", "-e", "app=probe", *options]
    for folder in folders:
        command += ["-i", folder]
    entry = {**ENTRY, "source": str(source)}
    command += ["-e", json.dumps({"scenario_probe": entry})]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())
