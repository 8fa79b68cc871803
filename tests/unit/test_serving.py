"""What runs in an app's container: the guard of requests, health check, drain, and shell lines."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUNTIME = Path(__file__).parents[2] / "roles/app/files/recipe/runtime"


@pytest.fixture(autouse=True)
def serving(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(RUNTIME)
    import flask_vps_serving

    return flask_vps_serving


def answer(app: Any, environ: dict[str, Any]) -> tuple[dict[str, str], Any]:
    """Send a request to a WSGI app; return the headers and the body as the app gave it."""
    headers: dict[str, str] = {}
    body = app(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **environ}, lambda _, h, *__: headers.update(h)
    )
    return headers, body


def app_of(*headers: tuple[str, str], body: Any = ()) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*headers, ("X-Seen", repr(sorted(environ.items())))])
        return iter(body) if isinstance(body, tuple) else body

    return app


@pytest.mark.parametrize(
    ("headers", "marked"),
    [
        ([("Content-Type", "text/event-stream")], "no"),
        ([("content-type", "text/plain; charset=utf-8")], "no"),
        ([("Content-Type", "application/x-ndjson")], "no"),
        # Controls: a page of known length, a download, and what the app says itself.
        ([("Content-Type", "text/html"), ("Content-Length", "5")], None),
        ([("Content-Type", "text/csv")], None),
        ([("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "yes")], "yes"),
        ([], None),
    ],
)
def test_streams_are_told_to_nginx(serving: Any, headers: list, marked: str | None) -> None:
    found, _ = answer(serving.Guard(app_of(*headers), None, over_http=False), {})
    assert found.get("X-Accel-Buffering") == marked


def test_over_http_the_app_sees_the_client(serving: Any) -> None:
    environ = {
        "REMOTE_ADDR": "",
        "HTTP_HOST": "shop.test:8443",
        "HTTP_X_REAL_IP": "192.0.2.1",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_PORT": "8443",
    }
    seen, _ = answer(serving.Guard(app_of(), None, over_http=True), environ)
    for pair in [("REMOTE_ADDR", "192.0.2.1"), ("wsgi.url_scheme", "https")]:
        assert repr(pair) in seen["X-Seen"]
    assert repr(("SERVER_NAME", "shop.test")) in seen["X-Seen"]
    # uWSGI's protocol describes the client itself.
    unchanged, _ = answer(serving.Guard(app_of(), None, over_http=False), environ)
    assert repr(("REMOTE_ADDR", "")) in unchanged["X-Seen"]


def test_files_are_left_to_the_server(serving: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    watch = serving.Watch(60, signal.SIGTERM)
    with (tmp_path / "file").open("rb") as file:
        _, body = answer(serving.Guard(app_of(body=file), watch, over_http=False), {})
        assert body is file
    _, body = answer(serving.Guard(app_of(body=[b"x"]), watch, over_http=False), {})
    assert body == [b"x"]
    _, body = answer(serving.Guard(app_of(body=(b"x", b"y")), watch, over_http=False), {})
    assert len(watch.begun) == 1
    assert list(body) == [b"x", b"y"]
    body.close()
    assert (watch.open, watch.begun) == ({}, set())


LATE = """
import signal, sys, threading, time
import flask_vps_serving as serving
serving.LATER_SECONDS, serving.GRACE_SECONDS = 0, 5
signal.signal(signal.SIGTERM, lambda *_: print("stops", flush=True))
guard = serving.Guard(lambda e, s: work(e), serving.Watch(1, signal.SIGTERM), over_http=False)
def other():
    ask("/parts")
    print("other finished", flush=True)
def work(environ):
    if environ["PATH_INFO"] == "/parts":
        return (time.sleep(0.7) or b"x" for _ in range(4))
    if environ["PATH_INFO"] == "/late":
        time.sleep(9)
    return iter([b"x"])
def ask(path, pause=0, **more):
    body = guard({"REQUEST_METHOD": "GET", "PATH_INFO": path, **more}, None)
    for part in body:
        time.sleep(pause)
    getattr(body, "close", int)()
    print("answered", path, flush=True)
ask("/parts")
ask("/slow-client", pause=2.5)
threading.Thread(target=ask, args=["/late"], kwargs=eval(sys.argv[1]), daemon=True).start()
time.sleep(float(sys.argv[2]))
threading.Thread(target=other, daemon=True).start()
time.sleep(6)
print("still runs", flush=True)
"""


@pytest.mark.parametrize(("more", "ends"), [({}, True), ({"HTTP_UPGRADE": "websocket"}, False)])
def test_a_worker_whose_request_is_late_ends(more: dict[str, str], ends: bool) -> None:
    """Neither long streams nor slow clients nor WebSockets count as late; others finish."""
    done = subprocess.run(
        [sys.executable, "-c", LATE, repr(more), "0.5"],
        env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout.splitlines()
    assert said[:2] == ["answered /parts", "answered /slow-client"], done.stderr
    finished = ["answered /parts", "other finished"]
    assert said[2:] == (["stops", *finished] if ends else [*finished, "still runs"])
    assert ("GET /late took longer than timeout_seconds (1)" in done.stderr) == ends
    assert (done.returncode == 1) == ends


def test_an_asgi_app_has_a_limit_until_its_response_begins(serving: Any) -> None:
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def app(scope: dict, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await asyncio.sleep(9)
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"x-client", repr(scope["client"]).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body"})

    guard = serving.AsyncGuard(app, 0.1)
    scope = {"type": "http", "path": "/", "client": None, "headers": [(b"x-real-ip", b"192.0.2.1")]}
    asyncio.run(guard(scope, None, send))
    assert len(sent) == 2
    assert (b"X-Accel-Buffering", b"no") in sent[0]["headers"]
    assert (b"x-client", b"('192.0.2.1', 0)") in sent[0]["headers"]
    with pytest.raises(TimeoutError):
        asyncio.run(guard({**scope, "path": "/late"}, None, send))


def test_apps_of_the_other_kind_and_socket_io_with_processes_are_refused(
    serving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinds.py").write_text(
        "class Async:\n    async def __call__(self, scope, receive, send): ...\n"
        "class Flask:\n    def wsgi_app(self, e, s): ...\n    __call__ = wsgi_app\n"
        "quart, flask, nothing = Async(), Flask(), None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TypeError, match="set `server: asgi`"):
        serving.wsgi("kinds:quart", 60, 1)
    with pytest.raises(TypeError, match="set `server: gunicorn`"):
        serving.asgi("kinds:flask", 60, 1)
    with pytest.raises(ImportError, match="`module` names app, which kinds does not have"):
        serving.wsgi("kinds:app", 60, 1)
    with pytest.raises(TypeError, match="`module` names kinds:nothing, which is not callable"):
        serving.wsgi("kinds:nothing", 60, 1)
    assert serving.wsgi("kinds:flask", 60, 2)
    monkeypatch.setitem(sys.modules, "flask_socketio", serving)
    assert serving.wsgi("kinds:flask", 60, 1)
    with pytest.raises(RuntimeError, match="set `processes: 1`"):
        serving.wsgi("kinds:flask", 60, 2)
    monkeypatch.setitem(sys.modules, "engineio.async_drivers.gevent", serving)
    assert serving.wsgi("kinds:flask", 60, 1, "gevent")
    with pytest.raises(RuntimeError, match="set `worker_class: gevent`"):
        serving.wsgi("kinds:flask", 60, 1, "gthread")


# -- shell lines ----------------------------------------------------------------------------------

PROGRAM = """
import signal, subprocess, sys, time
def stop(*_):
    print(f"{sys.argv[1]} finishes", flush=True)
    time.sleep(0.5)
    print(f"{sys.argv[1]} child {'ended' if child.poll() is not None else 'runs'}", flush=True)
    child.kill()
    sys.exit()
child = subprocess.Popen(["sleep", "60"])
signal.signal(signal.SIGTERM, stop)
print(f"{sys.argv[1]} begins", flush=True)
time.sleep(60)
"""


def stopped(line: str, tmp_path: Path, *begins: str) -> list[str]:
    """Run a shell line, stop it once its programs have begun, and return what they print."""
    (tmp_path / "program.py").write_text(PROGRAM)
    output = tmp_path / "output"
    with output.open("w") as file:
        line = line.replace("PROGRAM", f"{sys.executable} {tmp_path}/program.py")
        process = subprocess.Popen(["sh", str(RUNTIME / "run-line"), line], stdout=file)
        deadline = time.monotonic() + 20
        while not all(f"{name} begins" in output.read_text() for name in begins):
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        process.terminate()
        process.wait(timeout=30)
    return output.read_text().splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "PROGRAM a",
        "cd / && PROGRAM a",
        "cd /; (PROGRAM a; echo never); echo never",
        "while true; do PROGRAM a; done",
        "A=1 exec PROGRAM a",
        "PROGRAM a 2>&1 | cat",
    ],
)
def test_a_program_of_a_line_gets_the_signal(line: str, tmp_path: Path) -> None:
    # Its own child does not get it.
    assert stopped(line, tmp_path, "a") == ["a begins", "a finishes", "a child runs"]


def test_all_programs_of_a_line_get_the_signal(tmp_path: Path) -> None:
    said = stopped("PROGRAM a & PROGRAM b; wait", tmp_path, "a", "b")
    assert {"a finishes", "b finishes"} <= set(said)


def test_a_line_that_ends_by_itself_has_its_exit_code() -> None:
    def code(line: str) -> int:
        return subprocess.run(["sh", RUNTIME / "run-line", line], check=False).returncode

    assert (code("cd / && exit 7"), code("true | true")) == (7, 0)


# -- health check and drain -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("busy_at", "stopped", "well"), [(2, False, True), (3, False, False), (2, True, False)]
)
def test_an_app_is_busy_if_all_workers_have_requests(
    tmp_path: Path, busy_at: int, stopped: bool, well: bool
) -> None:
    (tmp_path / "net").mkdir()
    # Sockets that nginx's namespace lists have no line here.
    (tmp_path / "net/unix").write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000: 00000002 00000000 00010000 0001 01 17 /sockets/app.sock\n"
        "0000: 00000003 00000000 00000000 0001 03 20 /other.sock\n"
        "0000: 00000003 00000000 00000000 0001 03 21\n"
    )
    (tmp_path / "7/fd").mkdir(parents=True)
    for number, target in enumerate(
        ["socket:[17]", "socket:[18]", "socket:[19]", "socket:[20]", "socket:[21]", "pipe:[22]"]
    ):
        (tmp_path / "7/fd" / str(number)).symlink_to(target)
    (tmp_path / "7/stat").write_text(f"7 (a) b) {'T' if stopped else 'S'} 1 7 7\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = (RUNTIME / "healthcheck").read_text()
        text = text.replace("8000, timeout=5", f"{silent.getsockname()[1]}, timeout=0.3")
        text = text.replace('"/proc', f'"{tmp_path}').replace("/opt/flask-vps", str(tmp_path))
        module = (RUNTIME / "flask_vps_connections.py").read_text()
        module = module.replace('"/proc', f'"{tmp_path}')
        (tmp_path / "flask_vps_connections.py").write_text(module)
        done = subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "HEALTH_HOST": "shop.test", "HEALTH_BUSY": str(busy_at)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode == 0) == well, done
    assert ("busy" in done.stdout) == well


@pytest.mark.parametrize(("seconds", "open_seconds"), [(20, 1.5), (1, 20)])
def test_connections_have_time_to_end_before_the_server_stops(
    tmp_path: Path, seconds: int, open_seconds: float
) -> None:
    path = tmp_path / "app.sock"
    script = (RUNTIME / "drain").read_text().replace("/sockets/app.sock", str(path))
    # Only of the server's own processes: there are others on this machine.
    module = (RUNTIME / "flask_vps_connections.py").read_text()
    module = module.replace("/sockets/app", str(path.with_suffix("")))
    (tmp_path / "connections.py").write_text(module)
    script = script.replace(
        "/opt/flask-vps/flask_vps_connections.py", str(tmp_path / "connections.py")
    )
    script = script.replace("/opt/venv/bin/python3", sys.executable)
    server = (
        "import signal, socket, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        f"listener.bind({str(path)!r}); listener.listen()\n"
        "peer, _ = listener.accept(); peer.recv(1); peer.close(); time.sleep(60)\n"
    )
    # A socket that a crash has left behind.
    path.touch()
    process = subprocess.Popen(
        ["sh", "-c", script, "drain", str(seconds), sys.executable, "-c", server]
    )
    client = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 20
    while client.connect_ex(str(path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    start = time.monotonic()
    process.terminate()
    time.sleep(0.5)
    # No new requests.
    assert socket.socket(socket.AF_UNIX).connect_ex(str(path))
    if open_seconds < seconds:
        time.sleep(open_seconds - 0.5)
        assert process.poll() is None
        client.close()
    assert process.wait(timeout=30) == 3
    assert time.monotonic() - start >= min(seconds, open_seconds) - 0.5
    client.close()


def test_a_server_that_ends_by_itself_is_not_drained(tmp_path: Path) -> None:
    script = (RUNTIME / "drain").read_text().replace("/sockets/app.sock", f"{tmp_path}/app.sock")
    done = subprocess.run(["sh", "-c", script, "drain", "60", "sh", "-c", "exit 3"], check=False)
    assert done.returncode == 3
