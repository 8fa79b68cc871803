"""Rules for what runs an app: its server, and its limits."""

import re
from pathlib import Path
from typing import Any

from module_utils.app import has_own_image, setting

from checks.files import app_folder, is_file
from checks.report import Finding

# Files that list dependencies; requirement lists may have any name.
LISTS = ("*requirements*.txt", "requirements/*.txt", "pyproject.toml", "Pipfile", "setup.py")
# Flask extensions for WebSockets, in lower case with dashes.
SOCKETS = ("flask-sock", "flask-sockets", "simple-websocket", "geventwebsocket")
GREENLETS = re.compile(r"^\W*(gevent|eventlet)\b", re.MULTILINE)
WITH_SOCKETS = "server: gunicorn, processes: 1 and threads: 100, one for each client"


def check_serve(app: dict[str, Any], where: str) -> list[Finding]:
    """Check the server of an entry, and whether it suits what the app's source needs."""
    server, worker_class = (str(setting(app, key)) for key in ("server", "worker_class"))
    if has_own_image(app):
        key = "image" if app.get("image") else "dockerfile"
        return [
            _idle(where, each, f"because {key} has its own server", app[each])
            for each in ("server", "worker_class", "processes", "threads")
            if app.get(each) not in (None, "")
        ]
    found = []
    if app.get("worker_class") not in (None, "") and server != "gunicorn":
        why = f"because server is {server}"
        found.append(_idle(where, "worker_class", why, app["worker_class"], "set server: gunicorn"))
    single = server == "asgi" or (server == "gunicorn" and worker_class in ("sync", "gevent"))
    if app.get("threads") not in (None, "") and single:
        kind = "server: asgi" if server == "asgi" else f"worker_class: {worker_class}"
        found.append(_idle(where, "threads", f"with {kind}", app["threads"]))
    return found + _sockets(app, where, server, worker_class)


def _idle(where: str, key: str, why: str, value: Any, other: str = "") -> Finding:
    fix = f"Remove it, or {other}" if other else "Remove it"
    return Finding(f"{where}.{key}", f"has no effect {why}", fix, value, warning=True)


def _sockets(app: dict[str, Any], where: str, server: str, worker_class: str) -> list[Finding]:
    """Check an app that serves WebSockets, as far as its list of dependencies tells."""
    names = _dependencies(app)
    processes = str(setting(app, "processes")).strip()
    if _lists_any(names, ("flask-socketio",)):
        found = []
        if server == "uwsgi":
            wrong = "cannot pass on the WebSockets of Flask-SocketIO, which the app lists"
            fix = f"Set {WITH_SOCKETS}"
            # One process of uWSGI answers polling clients.
            warning = processes == "1"
            found.append(Finding(f"{where}.server", wrong, fix, server, warning=warning))
        if processes != "1":
            wrong = (
                "must be 1 for Flask-SocketIO: each process knows its own clients only, so most "
                "requests of a client would get 400"
            )
            fix = "Set processes: 1, and threads for the number of clients"
            found.append(Finding(f"{where}.processes", wrong, fix, processes))
        if server == "gunicorn" and worker_class != "gevent" and _lists_any(names, ("gevent",)):
            wrong = "does not suit Flask-SocketIO, which uses gevent because the app lists it"
            fix = "Set worker_class: gevent, or remove gevent from the list of dependencies"
            found.append(Finding(f"{where}.worker_class", wrong, fix, worker_class))
        return found
    if server == "uwsgi" and _lists_any(names, SOCKETS):
        wrong = "cannot pass on WebSockets, for which the app lists a package"
        fix = "Set server: gunicorn, with as many threads as clients"
        return [Finding(f"{where}.server", wrong, fix, server, warning=True)]
    return []


def _lists_any(text: str, names: tuple[str, ...]) -> bool:
    return any(re.search(rf"(?<![\w-]){name}(?![\w-])", text) for name in names)


def _dependencies(app: dict[str, Any]) -> str:
    """Read the lists of dependencies of a source on this machine; empty for a git address."""
    folder = app_folder(app)
    if not folder:
        return ""
    texts = [_read(file) for pattern in LISTS for file in sorted(folder.glob(pattern))]
    return "\n".join(texts)


def _read(file: Path) -> str:
    if not is_file(file):
        return ""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return ""
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.replace("\0", "").splitlines())
    return re.sub(r"[_.](?=[a-z])", "-", "\n".join(lines).lower())
