"""Read a Procfile: what its lines say about an app whose entry does not say it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from module_utils.app import has_own_image

# https://devcenter.heroku.com/articles/procfile
LINE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*:\s*(\S.*)")
# Programs that run another command.
WRAPPERS = (
    *("exec", "newrelic-admin run-program", "ddtrace-run", "opentelemetry-instrument"),
    *("poetry run", "pipenv run", "pdm run", "uv run", "python -m", "python3 -m"),
    "bin/start-pgbouncer",
)
# Options of servers that take no value, so that the next word is not theirs.
FLAGS = {
    *("--preload", "--reload", "-R", "--enable-stdio-inheritance", "--capture-output", "--daemon"),
    *("-D", "--no-sendfile", "--reuse-port", "--proxy-protocol", "--check-config", "--spew"),
    *("--proxy-headers", "--no-access-log", "--access-log", "--factory", "--no-server-header"),
    *("--master", "-M", "--enable-threads", "--die-on-term", "--need-app", "--lazy-apps"),
    *("--vacuum", "--single-interpreter", "--call", "--debug", "--with-threads", "--no-reload"),
    *("--disable-logging", "--log-syslog", "--use-colors", "--expose-tracebacks"),
}
# Commands that write files beside the code, which only the build can do.
BUILDS = re.compile(
    r"\b(babel|translate) compile\b|\bpybabel\b.* compile\b|\bassets build\b|\bdigest compile\b"
    r"|\b(npm|npx|yarn|pnpm) "
)
ASGI = ("uvicorn", "hypercorn", "daphne", "granian")


class ProcfileError(ValueError):
    """What is wrong with a Procfile, in words that follow its name."""


def read_procfile(text: str) -> dict[str, str]:
    """Return the commands of a Procfile by name."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {match[1]: match[2].strip() for line in lines if (match := LINE.fullmatch(line))}


def complete(entry: Mapping[str, Any], text: str) -> dict[str, Any]:
    """
    Fill in what an entry does not say from a Procfile.

    Parameters
    ----------
    entry : mapping
        An entry of ``apps``.
    text : str
        The Procfile. It is not used if the entry names a ``module`` or an image of its own.

    Returns
    -------
    dict
        The entry with ``module``, ``server`` and ``worker_class`` from the line ``web``, ``init``
        and ``build`` from ``release``, and ``workers`` from all others.

    Raises
    ------
    ProcfileError
        If the line ``web`` is missing or starts no known server.
    """
    if entry.get("module") or has_own_image(entry):
        return dict(entry)
    commands = read_procfile(text)
    if "web" not in commands:
        raise ProcfileError("has no line that begins with web:")
    first, found = _web(commands["web"])
    if entry.get("server"):
        # Another server than the Procfile's has other classes of workers.
        found = {"module": found["module"]}
    if release := commands.get("release"):
        first = _steps(release) if BUILDS.search(release) else [release]
    for key, is_build in (("build", True), ("init", False)):
        chosen = [step for step in first if bool(BUILDS.search(step)) == is_build]
        if chosen and not entry.get(key):
            found[key] = " && ".join(chosen)
    workers = [
        {"name": _name(name), "command": command}
        for name, command in commands.items()
        if name not in ("web", "release")
    ]
    if workers and entry.get("workers") is None:
        found["workers"] = workers
    return {**entry, **found}


def unread(entry: Mapping[str, Any], text: str) -> list[str]:
    """List the lines that an entry with a ``module`` neither uses nor replaces."""
    missing = []
    for name in read_procfile(text):
        key = {"web": "module", "release": "init"}.get(name, "workers")
        if entry.get(key) is None:
            missing.append(name)
    return missing


def _name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:31].strip("-") or "worker"


def _steps(command: str) -> list[str]:
    return [part.strip() for part in re.split(r"&&|;", command) if part.strip()]


def _web(command: str) -> tuple[list[str], dict[str, str]]:
    """Split a line into what runs before the server, and what its arguments say."""
    *first, server = _steps(command) or [""]
    try:
        words = shlex.split(server)
    except ValueError as error:
        raise ProcfileError(f"has a line web: that no shell can read ({error})") from error
    while words:
        if re.match(r"[A-Za-z_]\w*=", words[0]):
            words = words[1:]
            continue
        wrapper = next((w.split() for w in WRAPPERS if words[: len(w.split())] == w.split()), None)
        if wrapper is None:
            break
        words = words[len(wrapper) :]
    if not words:
        raise ProcfileError("has an empty line web:")
    program, *arguments = words
    program = program.rpartition("/")[2]
    options, names = _arguments(arguments)
    if program == "gunicorn" and names:
        return first, _gunicorn(names[0], options)
    if program in ASGI and names:
        return first, {"module": _callable(names[0], "app"), "server": "asgi"}
    if program == "waitress-serve" and names:
        called = "()" if "--call" in options else ""
        return first, {"module": _callable(names[0], "app") + called}
    if program == "uwsgi" and (module := _uwsgi(options)):
        return first, {"module": module}
    if program == "flask" and "run" in names and (app := options.get("--app") or options.get("-A")):
        return first, {"module": _callable(app, "app")}
    raise ProcfileError(
        f"starts {program} in its line web:, which does not say where the WSGI callable is"
    )


def _arguments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Tell a server's options from its other arguments."""
    options: dict[str, str] = {}
    names: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or word == "-":
            names.append(word)
            continue
        name, equals, value = word.partition("=")
        if not equals and name not in FLAGS:
            # A short option may have its value in the same word: -w4.
            if len(name) > 2 and not name.startswith("--"):
                name, value = name[:2], name[2:]
            elif position < len(words):
                value = words[position]
                position += 1
        options[name] = value
    return options, names


def _gunicorn(name: str, options: Mapping[str, str]) -> dict[str, str]:
    folder = options.get("--chdir", "").strip("./")
    prefix = f"{folder.replace('/', '.')}." if folder else ""
    kind = options.get("--worker-class") or options.get("-k") or ""
    found = {"module": prefix + _callable(name, "application")}
    if "uvicorn" in kind:
        return {**found, "server": "asgi"}
    if "gevent" in kind:
        return {**found, "server": "gunicorn", "worker_class": "gevent"}
    return found


def _uwsgi(options: Mapping[str, str]) -> str:
    target = options.get("--callable", "application")
    if module := options.get("--module") or options.get("-w"):
        return module if ":" in module else f"{module}:{target}"
    if file := options.get("--wsgi-file") or options.get("--file"):
        return _callable(f"{file}:{target}", target)
    return ""


def _callable(name: str, default: str) -> str:
    path, _, target = name.partition(":")
    path = re.sub(r"\.py$", "", path).strip("./").replace("/", ".")
    return f"{path}:{target or default}"
