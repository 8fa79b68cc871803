"""
Load an app for uWSGI or gunicorn, and give each request its time limit.

``wsgi`` and ``asgi`` return the app with a guard around it. The guard frees a worker whose request
has exceeded the limit, and marks streams, so that nginx passes them on at once instead of
collecting them. It does not limit WebSockets, nor how long a client takes to read a response.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# nginx answers 504 first, then the worker is freed.
LATER_SECONDS = 2
# How long the other requests of a worker may take to finish.
GRACE_SECONDS = 10
# Responses of these types are passed on unbuffered if their length is not known beforehand.
STREAMS = re.compile(
    r"text/(event-stream|html|plain)|multipart/x-mixed-replace"
    r"|application/(x-)?(ndjson|jsonl|jsonlines|json-seq|stream\+json)",
    re.IGNORECASE,
)


def load(module: str) -> Any:
    """Import what the entry's ``module`` names, such as ``shop:create_app('x')``."""
    path, _, target = module.partition(":")
    target = target or "application"
    found = importlib.import_module(path)
    name = re.split(r"\W", target, maxsplit=1)[0]
    if not hasattr(found, name):
        raise ImportError(f"`module` names {name}, which {path} does not have")
    app = eval(target, vars(found))  # noqa: S307  # preflight has checked it
    if not callable(app):
        raise TypeError(f"`module` names {module}, which is not callable")
    return app


def wsgi(module: str, seconds: int, processes: int, server: str = "uwsgi") -> Guard:
    """Load a WSGI app; `server` is ``uwsgi``, or the class of gunicorn's workers."""
    app = load(module)
    if any(map(inspect.iscoroutinefunction, (app, type(app).__call__))):
        raise TypeError(f"{module} is an ASGI app: set `server: asgi`")
    if "flask_socketio" in sys.modules:
        _refuse_processes(processes)
        _refuse_greenlets(server)
    # gunicorn itself ends a `sync` worker. In a `gevent` worker a request occupies no thread.
    watched = {"uwsgi": signal.SIGHUP, "gthread": signal.SIGTERM}
    watch = Watch(seconds, watched[server]) if server in watched else None
    return Guard(app, watch, over_http=server != "uwsgi")


def asgi(module: str, seconds: int, processes: int) -> AsyncGuard:
    """Load an ASGI app."""
    app = load(module)
    if callable(getattr(app, "wsgi_app", None)) and not hasattr(app, "asgi_app"):
        raise TypeError(f"{module} is a WSGI app, such as Flask's: set `server: gunicorn`")
    if type(app).__module__.split(".")[0] in ("socketio", "engineio"):
        _refuse_processes(processes)
    return AsyncGuard(app, seconds + LATER_SECONDS)


def _refuse_processes(processes: int) -> None:
    # Each process knows its own clients only, and the requests of one client reach all processes.
    if processes > 1:
        raise RuntimeError(
            f"Socket.IO does not work with {processes} processes: set `processes: 1`"
        )


def _refuse_greenlets(server: str) -> None:
    # Socket.IO takes the first of them that is installed, and would never answer in a thread.
    for name in ("eventlet", "gevent"):
        used = f"engineio.async_drivers.{name}" in sys.modules
        if used and server in ("gthread", "sync"):
            raise RuntimeError(
                f"Socket.IO uses {name}, which does not work in threads: set "
                "`worker_class: gevent` with gevent, or async_mode='threading' in the app"
            )


class Watch:
    """Ends its process once a request has exceeded the time limit; the server starts a new one."""

    def __init__(self, seconds: int, stop: signal.Signals) -> None:
        self.seconds = seconds
        self.stop = stop
        # The requests that the app works on, with their limits; and all that have not ended.
        self.open: dict[object, tuple[float, str]] = {}
        self.begun: set[object] = set()
        self.pid = 0

    def begin(self, request: object, name: str) -> None:
        """Start the clock of a request anew."""
        self.open[request] = (time.monotonic() + self.seconds + LATER_SECONDS, name)
        if self.pid != os.getpid():
            self.pid = os.getpid()
            threading.Thread(target=self._run, name="flask-vps-watch", daemon=True).start()

    def end(self, request: object) -> None:
        """Stop the clock of a request."""
        self.open.pop(request, None)

    def _run(self) -> None:
        beat = _heartbeat()
        while True:
            # If this thread cannot run, because a request does not let go of the interpreter,
            # uWSGI's master ends the process.
            beat(self.seconds + LATER_SECONDS + GRACE_SECONDS)
            time.sleep(1)
            now = time.monotonic()
            late = {key: name for key, (limit, name) in self.open.copy().items() if limit < now}
            if late:
                self._end_process(late)

    def _end_process(self, late: dict[object, str]) -> None:
        for name in late.values():
            said = f"HARAKIRI: {name} took longer than timeout_seconds ({self.seconds})."
            print(said, "A new worker takes over.", file=sys.stderr, flush=True)
        # The server takes no more requests with this process.
        os.kill(os.getpid(), self.stop)
        end = time.monotonic() + GRACE_SECONDS
        time.sleep(1)
        while self.begun - set(late) and time.monotonic() < end:
            time.sleep(0.1)
        os._exit(1)


def _heartbeat() -> Callable[[int], object]:
    try:
        import uwsgi  # type: ignore[import-not-found]  # exists in uWSGI only
    except ImportError:
        # gunicorn's workers have a heartbeat of their own.
        return lambda _: None
    return uwsgi.set_user_harakiri


class Guard:
    """A WSGI app whose requests have a time limit."""

    def __init__(self, app: Any, watch: Watch | None, over_http: bool) -> None:
        self.app = app
        self.watch = watch
        self.over_http = over_http

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer a request."""
        if self.over_http:
            _describe(environ)

        def begin(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, _marked(headers), *error)

        if self.watch is None:
            return self.app(environ, begin)
        request = object()
        self.watch.begun.add(request)
        if "HTTP_UPGRADE" in environ:
            try:
                return self.app(environ, begin)
            finally:
                self.watch.begun.discard(request)
        name = f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"
        self.watch.begin(request, name)
        try:
            body = self.app(environ, begin)
        except BaseException:
            self.watch.end(request)
            self.watch.begun.discard(request)
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        is_file = isinstance(wrapper, type) and isinstance(body, wrapper)
        if is_file or hasattr(body, "read") or isinstance(body, list | tuple):
            # The server sends it by itself, files by sendfile.
            self.watch.end(request)
            self.watch.begun.discard(request)
            return body
        return Body(body, self.watch, request, name)


class Body:
    """The body of a response; each part of it has the time limit."""

    def __init__(self, body: Any, watch: Watch, request: object, name: str) -> None:
        self.body = body
        self.parts = iter(body)
        self.watch = watch
        self.request = request
        self.name = name
        watch.end(request)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the parts."""
        return self

    def __next__(self) -> bytes:
        """Return the next part."""
        self.watch.begin(self.request, self.name)
        try:
            return next(self.parts)
        finally:
            # How long the client takes to read is not limited.
            self.watch.end(self.request)

    def close(self) -> None:
        """Close the body, as the server does after each response."""
        self.watch.begin(self.request, self.name)
        try:
            if hasattr(self.body, "close"):
                self.body.close()
        finally:
            self.watch.end(self.request)
            self.watch.begun.discard(self.request)


class AsyncGuard:
    """An ASGI app whose requests have a time limit until their response begins."""

    def __init__(self, app: Any, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request, or serve a WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope = _described(scope)
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        async with asyncio.timeout(self.seconds) as limit:

            async def answer(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    limit.reschedule(None)
                    pairs = message.get("headers", [])
                    marked = _marked([(k.decode("latin-1"), v.decode("latin-1")) for k, v in pairs])
                    raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in marked]
                    message = {**message, "headers": raw}
                await send(message)

            await self.app(scope, receive, answer)


def _marked(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Tell nginx to pass a stream on unbuffered; a response that says so itself stays as it is."""
    names = {name.lower(): value for name, value in headers}
    if {"content-length", "x-accel-buffering"} & set(names):
        return headers
    if not STREAMS.match(names.get("content-type", "")):
        return headers
    return [*headers, ("X-Accel-Buffering", "no")]


def _describe(environ: dict[str, Any]) -> None:
    """Describe the client as uWSGI's protocol does; over HTTP the edge tells it in headers."""
    for name, header in {
        "REMOTE_ADDR": "HTTP_X_REAL_IP",
        "SERVER_PORT": "HTTP_X_FORWARDED_PORT",
        "wsgi.url_scheme": "HTTP_X_FORWARDED_PROTO",
    }.items():
        if environ.get(header):
            environ[name] = environ[header]
    if environ.get("HTTP_HOST"):
        environ["SERVER_NAME"] = re.sub(r":\d+$", "", environ["HTTP_HOST"])


def _described(scope: dict[str, Any]) -> dict[str, Any]:
    """Describe the client of an ASGI request, as `_describe` does."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    scope = {**scope}
    if "x-real-ip" in headers:
        scope["client"] = (headers["x-real-ip"], 0)
    if headers.get("x-forwarded-proto") == "https":
        scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"
    if headers.get("x-forwarded-port", "").isdigit():
        host = re.sub(r":\d+$", "", headers.get("host", ""))
        scope["server"] = (host, int(headers["x-forwarded-port"]))
    return scope
