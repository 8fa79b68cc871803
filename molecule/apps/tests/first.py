"""Other apps beside the shipped one; `last.py` checks their data again after a change."""

import json
import os
from pathlib import Path

import apps
from conftest import Site


def test_an_app_with_sqlite_keeps_rows_and_files(site: Site) -> None:
    assert apps.ask(site, "notes", "/", "POST", "text=Milk").status == 302
    assert apps.ask(site, "notes", "/files/a", "PUT", "x" * 1000).status == 201
    assert "<li>Milk</li>" in apps.ask(site, "notes").body
    assert apps.ask(site, "notes", "/files/a").body == "x" * 1000


def test_uploads_end_at_the_app_s_own_limit(site: Site) -> None:
    assert apps.ask(site, "notes", "/files/b", "PUT", "x" * 1_000_000).status == 201
    assert apps.ask(site, "notes", "/files/b", "PUT", "x" * 1_100_000).status == 413
    # Each app has its own limit; that of the others is 16 MiB.
    assert apps.ask(site, "shortener", "/b", "PUT", "x" * 1_100_000).status == 401


def test_an_app_from_git_has_its_factory_packages_settings_and_database(site: Site) -> None:
    page = apps.ask(site, "shortener").body
    assert "Short & sweet: $HOME jq-" in page
    assert "100 % {short}" in page
    assert (
        apps.ask(site, "shortener", "/static/style.css").body.strip()
        == "body { font-family: sans-serif; }"
    )
    apps.shorten(site, "docs", "https://example.org/docs")
    assert apps.ask(site, "shortener", "/docs").headers["location"] == "https://example.org/docs"


def test_what_only_the_build_needs_stays_out_of_the_image(site: Site) -> None:
    listing = "dpkg-query -W -f '${Package}\\n'"
    web = apps.web(site, "shortener")
    packages = site.on_server("docker", "exec", web, "sh", "-c", listing)
    assert "jq" in packages.split()
    assert "libmagic-dev" not in packages.split()
    assert "gcc" not in packages.split()


def test_an_app_that_is_a_package_has_its_python_metadata_and_extras(site: Site) -> None:
    found = json.loads(apps.ask(site, "catalog").body)
    assert found == {
        "books": ["Walden", "Emma"],
        "core": "0.3.0",
        "extra": True,
        "python": "3.11",
        "version": "2.5.1",
    }
    # Negative control: the others run with the Python of the image.
    code = "import sys; print(sys.version_info[1])"
    assert (
        site.on_server("docker", "exec", apps.web(site, "notes"), "python3", "-c", code) != "11\n"
    )


def test_what_the_build_command_made_is_in_the_image_and_served(site: Site) -> None:
    found = json.loads(apps.ask(site, "poster").body)
    assert found == {"greeting": "Guten Tag", "node": False, "token": ""}
    script = apps.ask(site, "poster", "/static/dist/app.js")
    assert (script.status, script.body.strip()) == (200, "const day = 86400000;")
    assert apps.ask(site, "poster", "/static/style.css").status == 200
    web = apps.web(site, "poster")
    assert (
        site.on_server("docker", "exec", web, "sh", "-c", "command -v node npm git || true") == ""
    )
    secret = (Path(os.environ["SITE_SECRETS"]) / "scenario").read_text().strip()
    image = site.on_server("docker", "inspect", "-f", "{{.Config.Image}}", web).strip()
    assert secret not in site.on_server("docker", "history", "--no-trunc", image)
    left = "find /opt/flask-vps/apps/poster -name '.build_secrets' -o -name '.secret_*'"
    assert site.on_server("sh", "-c", left) == ""


def test_apps_cannot_reach_each_other_s_database(site: Site) -> None:
    look = "import socket; print(socket.gethostbyname('{}'))"
    web = apps.web(site, "my_flask_webpage")
    # Negative control: each app finds its own database.
    assert site.on_server("docker", "exec", web, "python3", "-c", look.format("db"))
    address = site.on_server(
        "docker",
        "inspect",
        "-f",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        "shortener-db-db-1",
    ).strip()
    connect = f"import socket; socket.create_connection(('{address}', 5432), 3)"
    done = site.on_server("sh", "-c", f'docker exec {web} python3 -c "{connect}" 2>&1 || true')
    assert "Error" in done


def test_an_app_as_its_procfile_and_files_describe_it(site: Site) -> None:
    assert apps.ask(site, "diary", "/", "POST", "text=Monday").status == 302
    found = json.loads(apps.ask(site, "diary").body)
    assert found == {
        "title": "Diary",
        "pages": ["Monday"],
        "key": ["-----BEGIN TEST KEY-----", 3],
    }
    # A file beside the code, kept on a volume.
    assert "started" in site.on_server(
        "cat", "/var/lib/docker/volumes/diary.app-diary.log/_data/diary.log"
    )
    assert [
        name for name in site.containers() if name.startswith("diary-") and "-worker-clock-" in name
    ]


def test_a_body_larger_than_the_memory_is_buffered_on_the_disk(site: Site) -> None:
    """The container has 128 MB."""
    size = 160 * 2**20
    assert json.loads(apps.ask(site, "diary", "/measure", "PUT", "x" * size).body) == {
        "bytes": size
    }


def test_commands_of_docker_exec_have_the_secrets_and_inspect_has_not(site: Site) -> None:
    web = apps.web(site, "atlas")
    for command in (["sh", "-c", "echo $DATABASE_URL"], ["printenv", "DATABASE_URL"]):
        shown = site.on_server("docker", "exec", web, *command)
        assert shown.startswith("postgresql+psycopg://atlas:")
    code = "from atlas import engine; print(engine.connect().exec_driver_sql('SELECT 7').scalar())"
    assert site.on_server("docker", "exec", web, "python", "-c", code).strip() == "7"
    assert "TITLE" not in site.on_server("docker", "inspect", apps.web(site, "diary"))
    # What the image itself has: neither the file nor the key.
    image = site.on_server("docker", "inspect", "-f", "{{.Image}}", apps.web(site, "diary")).strip()
    run = ("docker", "run", "--rm", "--network=none", "--entrypoint=sh", image, "-c")
    assert site.on_server(*run, "ls /app/instance 2>/dev/null || echo none").strip() == "none"


def test_postgres_has_extensions_locale_and_the_scheme_of_psycopg(site: Site) -> None:
    assert json.loads(apps.ask(site, "atlas").body) == {
        "driver": "psycopg",
        # By code points it would be Aachen, Zagreb, Ärmelkanal.
        "names": ["Aachen", "Ärmelkanal", "Zagreb"],
        "alike": True,
        "distance": 3.0,
    }


def test_remember_what_the_others_are(site: Site) -> None:
    Path(os.environ["SITE_STATE"]).write_text(json.dumps(apps.identities(site)))
