"""Certificate and data survive a change of the image source; run after each change."""

import json
import os
from pathlib import Path

from conftest import Site

# The registry of the edge's images, and the edge's containers, after each change.
STEPS = [
    ("nginxproxy/nginx-proxy:", {"edge-nginx-1", "edge-acme-companion-1"}),
    (
        "127.0.0.1:5000/private/nginx:",
        {"edge-nginx-1", "edge-docker-gen-1", "edge-acme-companion-1"},
    ),
    ("archive.test/nginx:", {"edge-nginx-1", "edge-docker-gen-1", "edge-acme-companion-1"}),
]


def test_images_change_and_certificate_and_rows_stay(site: Site) -> None:
    state = Path(os.environ["SITE_STATE"])
    before = json.loads(state.read_text()) if state.exists() else {}
    containers = site.containers()
    image, names = STEPS[before.get("step", 0)]
    assert {name for name in containers if name.startswith("edge-")} == names
    assert containers["edge-nginx-1"]["Config"]["Image"].startswith(image)
    assert site.request().status == 200
    now = {
        "serial": site.connect().sock.getpeercert()["serialNumber"],
        "rows": site.on_server(
            "docker", "exec", "my_flask_webpage-db-db-1",
            "psql", "-U", "postgres", "-d", "my_flask_webpage", "-Atc", "SELECT title FROM project",
        ),
        "system": site.on_server(
            "docker", "exec", "my_flask_webpage-db-db-1",
            "psql", "-U", "postgres", "-Atc", "SELECT system_identifier FROM pg_control_system()",
        ),
    }  # fmt: skip
    assert now["rows"]
    for name in now:
        assert before.get(name, now[name]) == now[name], name
    # Only the first step may have nothing to compare with, so a missing file fails the later ones.
    assert len(before) == (4 if before.get("step") else 0)
    state.write_text(json.dumps({**now, "step": before.get("step", 0) + 1}))


def test_no_login_stays_and_no_password_shows(site: Site) -> None:
    password = (Path(os.environ["SITE_SECRETS"]) / "registry").read_text().strip()
    configuration = site.on_server("sh", "-c", "cat /root/.docker/config.json 2>/dev/null || true")
    assert '"auth"' not in configuration
    log = Path(os.environ["SITE_LOG"]).read_text()
    assert "PLAY RECAP" in log
    assert password not in log
