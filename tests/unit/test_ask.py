"""The smoke test of deploys and rollbacks: a request to one release through nginx."""

import contextlib
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).parents[2] / "roles/app"
# The entry as recorded by an older release, before the site's domain changed.
OLD = {"name": "shop", "domains": ["old.test"], "health": "/health"}
NEW = {"name": "shop", "domains": ["new.test"]}


def argv(**values: Any) -> list[str]:
    """Render the command of the smoke test."""
    [task] = yaml.safe_load((ROLE / "tasks/deploy/smoke_test.yml").read_text())
    words = task["community.docker.docker_container_exec"]["argv"]
    given = {"app_entry": OLD, "ask_kind": "uwsgi", "ask_release": "0a"} | values
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701
    return [environment.from_string(word).render(given) for word in words]


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def run(command: list[str], server: socket.socket) -> subprocess.CompletedProcess[str]:
    port = str(server.getsockname()[1])
    command = [port if word == "3031" else word for word in command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def test_nginx_finds_an_app_whose_release_is_from_before_its_domains() -> None:
    heard = []
    with listening() as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                with connection.makefile() as request:
                    heard.append("".join(iter(request.readline, "\n")))
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        done = run(argv(), server)
    assert done.stdout.startswith("HTTP/1.1 200")
    assert heard[0].startswith("GET /health HTTP/1.0\n") and "X-Release: 0a\n" in heard[0]
    [host] = re.findall(r"^Host: (\S+)$", heard[0], re.MULTILINE)
    environment = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True
    )
    values = {"app_entry": NEW, "__app_claims": []}
    conf = environment.get_template("vhost/releases.conf.j2").render(values)
    served = re.findall(r"server_name (.+);", conf)
    assert len(served) == 2 and all(host in names.split() for names in served)
    # nginx passes the first name to the app.
    assert all(names.split()[0] == "new.test" for names in served)


@pytest.mark.parametrize("answer", [b"", b"H"])
def test_a_run_stops_waiting_for_an_endless_answer(answer: bytes) -> None:
    command = argv()
    assert command[0] == "timeout" and 60 < int(command[1]) < 120
    command[1] = "1"
    with listening() as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(100):
                    connection.sendall(answer)
                    time.sleep(0.1)

        threading.Thread(target=trickle, daemon=True).start()
        start = time.monotonic()
        assert run(command, server).returncode == 124
        assert time.monotonic() - start < 5
