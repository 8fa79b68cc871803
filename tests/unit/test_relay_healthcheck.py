"""The relay's health check: draining is healthy, a missing app is not."""

import socket
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/app/files/recipe/runtime/relay-healthcheck"


@pytest.mark.parametrize(
    ("title", "well"),
    [("nginx: worker process is shutting down", True), ("nginx: worker process", False)],
)
def test_a_relay_that_finishes_its_last_requests_is_well(
    tmp_path: Path, title: str, well: bool
) -> None:
    # A port on which nothing listens.
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    script = SCRIPT.read_text().replace("/dev/tcp/127.0.0.1/8000", f"/dev/tcp/127.0.0.1/{port}")
    # Let the script see other processes than those of this machine.
    script = script.replace("/proc/[0-9]*/cmdline", f"{tmp_path}/[0-9]*/cmdline")
    for number, name in enumerate(["nginx: master process nginx", title]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / f"{number}/cmdline").write_text(f"{name}\0\0\0")
    # A process that has ended meanwhile.
    (tmp_path / "9").mkdir()
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == well, done


@pytest.mark.parametrize(
    ("answered", "well"),
    # The last answer was so many seconds ago; None: there was none.
    [(5, True), (50, False), (None, False)],
)
def test_an_app_that_is_merely_busy_is_well(
    tmp_path: Path, answered: int | None, well: bool
) -> None:
    if answered is not None:
        (tmp_path / "answered").write_text(f"{int(time.time()) - answered}\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        script = SCRIPT.read_text().replace("/dev/tcp/127.0.0.1/8000", f"/dev/tcp/127.0.0.1/{port}")
        done = subprocess.run(
            ["bash", "-c", script.replace("read -r -t 5", "read -r -t 0.3")],
            env={
                "HEALTH_ANSWERED": f"{tmp_path}/answered",
                "HEALTH_HOST": "shop.test",
                "HEALTH_PATH": "/",
                "HEALTH_PATIENCE": "30",
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode == 0) == well, done
    assert ("busy" in done.stdout) == well


@pytest.mark.parametrize(
    ("answer", "well", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", True, "404\n"),
        (b"HTTP/1.1 500 Error\r\n\r\n", False, "500\n"),
        (b"", False, "the relay gets no answer from the app\n"),
    ],
)
def test_what_the_relay_answers_is_told(
    tmp_path: Path, answer: bytes, well: bool, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        script = SCRIPT.read_text().replace("/dev/tcp/127.0.0.1/8000", f"/dev/tcp/127.0.0.1/{port}")
        process = subprocess.Popen(
            ["bash", "-c", script],
            env={
                "HEALTH_ANSWERED": f"{tmp_path}/answered",
                "HEALTH_HOST": "shop.test",
                "HEALTH_PATH": "/",
                "HEALTH_PATIENCE": "30",
                "PATH": "/usr/bin:/bin",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        connection, _ = listener.accept()
        with connection:
            # bash sends each line separately.
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                asked += connection.recv(4096)
            connection.sendall(answer)
        output, _ = process.communicate(timeout=10)
    assert (process.returncode == 0, output) == (well, said)
    assert (tmp_path / "answered").exists() == well
