"""The security of the server and its containers."""

import json
import os
import re
from pathlib import Path

from conftest import Site

# All others have none. nginx prepares its cache folders and switches its workers to another user.
CAPABILITIES = {"edge-nginx-1": {"CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"}}


def test_every_container_is_read_only_and_unprivileged(site: Site) -> None:
    containers = site.containers()
    assert {name.rsplit("-", 2)[-2] for name in containers} == {
        "nginx", "gen", "companion", "db", "vhost", "web",
    }  # fmt: skip
    for name, container in containers.items():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert not host["Privileged"], name
        assert host["CapDrop"] == ["ALL"], name
        added = {capability.removeprefix("CAP_") for capability in host["CapAdd"] or []}
        assert added == CAPABILITIES.get(name, set()), name
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        # After a signal through Docker's API, as the edge's containers get, only `always` restarts.
        policy = "always" if name.startswith("edge-") else "unless-stopped"
        assert host["RestartPolicy"]["Name"] == policy, name


def test_only_those_that_need_it_have_the_docker_socket(site: Site) -> None:
    holders = {
        name
        for name, container in site.containers().items()
        if any(mount["Source"].endswith("docker.sock") for mount in container["Mounts"])
    }
    assert holders == {"edge-docker-gen-1", "edge-acme-companion-1"}


def test_apps_do_not_run_as_root(site: Site) -> None:
    for part in ("-web-", "-db-db-", "-vhost-"):
        status = site.on_server(
            "sh",
            "-c",
            f"cat /proc/$(docker inspect -f {{{{.State.Pid}}}} {site.container(part)})/status",
        )
        assert re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)[1] != "0", part


def test_no_secret_shows_in_inspect_processes_images_or_output(site: Site) -> None:
    secrets = [file.read_text().strip() for file in Path(os.environ["SITE_SECRETS"]).iterdir()]
    assert len(secrets) >= 2
    assert min(len(secret) for secret in secrets) >= 32
    places = {
        "docker inspect": json.dumps(site.containers()),
        "the process list": site.on_server("ps", "axww", "-o", "args"),
        "the image's history": site.on_server(
            "sh", "-c", "docker images -q | sort -u | xargs -n1 docker history --no-trunc"
        ),
        "the play's output": Path(os.environ["SITE_LOG"]).read_text(),
    }
    assert "PLAY RECAP" in places["the play's output"]
    for place, text in places.items():
        for secret in secrets:
            assert secret not in text, place
    # Negative control: the same search finds the secrets in the container's file system.
    web = site.container("-web-")
    held = site.on_server("docker", "exec", web, "sh", "-c", "cat /run/secrets/*")
    assert any(secret in held for secret in secrets)


def test_secret_files_belong_to_their_reader_alone(site: Site) -> None:
    listing = site.on_server("sh", "-c", "stat -c '%a %u' /opt/flask-vps/apps/*/secrets/*")
    numbers = json.loads(site.on_server("cat", "/opt/flask-vps/uids.json"))
    assert set(listing.splitlines()) == {f"400 {numbers['my_flask_webpage']}"}


def test_only_the_expected_ports_listen(site: Site) -> None:
    listening = site.on_server("ss", "-Hltn").splitlines()
    outside = {
        int(line.split()[3].rsplit(":", 1)[1])
        for line in listening
        if not line.split()[3].startswith(("127.", "[::1]"))
    }
    assert outside == {22, 80, site.https_port}


def test_database_has_no_way_out_and_checks_its_pages(site: Site) -> None:
    network = json.loads(site.on_server("docker", "network", "inspect", "my_flask_webpage-backend"))
    assert network[0]["Internal"] is True
    checksums = site.on_server(
        "docker", "exec", "my_flask_webpage-db-db-1",
        "psql", "-U", "postgres", "-Atc", "SHOW data_checksums",
    )  # fmt: skip
    assert checksums.strip() == "on"


def test_app_is_not_the_databases_superuser(site: Site) -> None:
    roles = site.on_server(
        "docker", "exec", "my_flask_webpage-db-db-1",
        "psql", "-U", "postgres", "-Atc", "SELECT rolname FROM pg_roles WHERE rolsuper",
    )  # fmt: skip
    assert roles.split() == ["postgres"]


def test_image_has_no_compiler(site: Site) -> None:
    web = site.container("-web-")
    found = site.on_server(
        "docker", "exec", web, "sh", "-c", "command -v gcc cc make apt-key pdm || true"
    )
    assert found.strip() == ""


ASK_UWSGI = """
import socket, struct, sys
host = sys.argv[2]
pairs = {"REQUEST_METHOD": "GET", "PATH_INFO": "/readyz", "REQUEST_URI": "/readyz",
         "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": host, "HTTP_HOST": host,
         "SERVER_PORT": "443", "REMOTE_ADDR": "127.0.0.1", "UWSGI_SCHEME": "https", "HTTPS": "on"}
parts = [part.encode() for pair in pairs.items() for part in pair]
body = b"".join(struct.pack("<H", len(part)) + part for part in parts)
server = socket.create_connection((sys.argv[1], 3031), timeout=10)
server.sendall(struct.pack("<BHB", 0, len(body), 0) + body)
print(server.recv(65536).decode())
"""


def test_app_speaks_uwsgis_own_protocol_on_3031(site: Site) -> None:
    """Source of the packet format: uwsgi-docs.readthedocs.io, "The uwsgi Protocol"."""
    web = json.loads(site.on_server("docker", "inspect", site.container("-web-")))[0]
    network = web["NetworkSettings"]["Networks"]["my_flask_webpage-backend"]
    answer = site.on_server("python3", "-c", ASK_UWSGI, network["IPAddress"], site.domain)
    assert answer.startswith("HTTP/1.1 200 ")


def test_image_has_the_app_and_neither_tests_nor_git_nor_secrets(site: Site) -> None:
    look = "import os; print([os.path.join(d, f) for d, _, fs in os.walk('/app') for f in fs])"
    image = json.loads(site.on_server("docker", "inspect", site.container("-web-")))[0]["Image"]
    # A container of the image alone, without the release's mounts.
    run = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c"]
    listing = site.on_server(*run, look)
    assert "/app/src/my_flask_webpage/templates/base.html" in listing
    for trace in ("/app/tests", "/.git", "/.env", "/run/secrets", "vault", "/app/instance"):
        assert trace not in listing
