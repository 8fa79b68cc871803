"""Stopping the all-in-one container, with stand-ins for forego and nginx."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/proxy/files/quit-gracefully"
# Like nginx: SIGQUIT lets a request in flight finish, SIGTERM does not.
NGINX = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def stop(number, _):
    if number == signal.SIGQUIT:
        time.sleep(0.5)
        (folder / "finished").touch()
    (folder / "nginx.pid").unlink(missing_ok=True)
    os._exit(0)
for number in (signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, stop)
(folder / "nginx.pid").write_text(f"{os.getpid()}\\n")
while True:
    time.sleep(1)
"""
# Like `forego start -r`: restarts nginx when it ends, and forwards SIGTERM.
FOREGO = """
import os, signal, sys, time
def stop(*_):
    os.kill(nginx, signal.SIGTERM)
    time.sleep(0.2)
    os._exit(7)
signal.signal(signal.SIGTERM, stop)
while True:
    nginx = os.spawnl(os.P_NOWAIT, sys.executable, "nginx", "-c", os.environ["NGINX"], sys.argv[1])
    os.waitpid(nginx, 0)
"""


def _appears(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.mark.parametrize("wrapped", [True, False])
def test_requests_in_flight_finish_although_forego_cuts_them_off(
    tmp_path: Path, wrapped: bool
) -> None:
    script = SCRIPT.read_text().replace("/run/nginx.pid", str(tmp_path / "nginx.pid"))
    command = [sys.executable, "-c", FOREGO, str(tmp_path)]
    if wrapped:
        command = ["sh", "-c", script, "quit-gracefully", *command]
    container = subprocess.Popen(command, env=os.environ | {"NGINX": NGINX})
    try:
        _appears(tmp_path / "nginx.pid")
        container.send_signal(signal.SIGTERM)
        # The exit code is that of the command.
        assert container.wait(timeout=20) == 7
    finally:
        container.kill()
    # Negative control: without the wrapper the request is cut off.
    assert (tmp_path / "finished").exists() == wrapped


def test_what_still_starts_is_stopped_at_once(tmp_path: Path) -> None:
    script = SCRIPT.read_text().replace("/run/nginx.pid", str(tmp_path / "nginx.pid"))
    container = subprocess.Popen(["sh", "-c", script, "quit-gracefully", "sleep", "60"])
    time.sleep(0.5)
    container.send_signal(signal.SIGTERM)
    assert container.wait(timeout=20) == 128 + signal.SIGTERM
