"""The few calls to the Docker Engine API that the edge needs.

Source of every path and field: https://docs.docker.com/reference/api/engine/. Standard
library only: python3-docker would cost each of the two programs 12 MB of resident memory.
"""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

TIMEOUT_SECONDS = 60


class DockerError(Exception):
    """The engine cannot be reached (no status), or refused a request (its HTTP status)."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host and port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Docker:
    """A Docker engine.

    Parameters
    ----------
    host : str
        ``unix:///path`` or ``tcp://host:port``, as in ``DOCKER_HOST``.

    Raises
    ------
    DockerError
        If the scheme is another one.
    """

    def __init__(self, host: str) -> None:
        self._url = urlsplit(host)
        if self._url.scheme not in ("unix", "tcp"):
            raise DockerError(f"DOCKER_HOST is {host!r}; supported are unix:// and tcp://")

    def _open(
        self, method: str, path: str, query: dict[str, Any], body: Any, timeout: float | None
    ) -> http.client.HTTPResponse:
        connection: http.client.HTTPConnection
        if self._url.scheme == "unix":
            connection = _UnixConnection(self._url.path, timeout)
        else:
            connection = http.client.HTTPConnection(self._url.netloc, timeout=timeout)
        values = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in query.items()}
        try:
            connection.request(
                method,
                f"{path}?{urlencode(values)}",
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            if response.status >= 400:
                text = response.read().decode().strip()
                raise DockerError(f"{method} {path}: {response.status} {text}", response.status)
        except (OSError, http.client.HTTPException) as error:
            raise DockerError(f"{method} {path}: {error}") from error
        return response

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Send one request and decode its JSON answer.

        Parameters
        ----------
        method, path : str
            For example ``GET`` and ``/containers/json``.
        body : Any
            Sent as JSON.
        **query : Any
            Query parameters; a dict becomes JSON, as filters do.

        Returns
        -------
        Any
            The decoded answer, or None for an empty one.

        Raises
        ------
        DockerError
            On any failure.
        """
        try:
            with self._open(method, path, query, body, TIMEOUT_SECONDS) as response:
                text = response.read()
            return json.loads(text) if text else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DockerError(f"{method} {path}: {error}") from error

    def containers(self, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Inspect the running containers that match, newest first.

        Parameters
        ----------
        filters : dict
            As for ``docker ps --filter``; ``status`` defaults to running.

        Returns
        -------
        list of dict
            One answer of ``/containers/{id}/json`` each.
        """
        filters = {"status": ["running"]} | filters
        found = []
        for item in self.call("GET", "/containers/json", filters=filters):
            try:
                found.append(self.call("GET", f"/containers/{item['Id']}/json"))
            except DockerError as error:
                if error.status != 404:  # it went away in between
                    raise
        return found

    def kill(self, container: str, signal: str | int) -> None:
        """Send a signal to a container, by id or name."""
        self.call("POST", f"/containers/{container}/kill", signal=signal)

    def execute(self, container: str, command: list[str]) -> int:
        """Run a command in a container and wait for it.

        Returns
        -------
        int
            Its exit status.
        """
        exec_id = self.call("POST", f"/containers/{container}/exec", {"Cmd": command})["Id"]
        with self._open(
            "POST", f"/exec/{exec_id}/start", {}, {"Detach": False}, TIMEOUT_SECONDS
        ) as stream:
            stream.read()
        return self.call("GET", f"/exec/{exec_id}/json")["ExitCode"]

    def events(self, filters: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
        """Yield events as they happen, until the engine closes the stream.

        The first item is an empty dict: the stream is open from then on, so what is read
        from the engine afterwards cannot be older than the events that follow.

        Raises
        ------
        DockerError
            If the stream cannot be opened or breaks.
        """
        # No timeout: silence is normal here, and a dead engine closes the socket.
        with self._open("GET", "/events", {"filters": filters}, None, None) as response:
            yield {}
            try:
                while line := response.readline():
                    yield json.loads(line)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise DockerError(f"GET /events: {error}") from error


def parse_filters(text: str) -> dict[str, list[str]]:
    """Read container filters as DOCKER_CONTAINER_FILTERS has them.

    Parameters
    ----------
    text : str
        For example ``health=healthy,label=a=b``.

    Returns
    -------
    dict
        For example ``{"health": ["healthy"], "label": ["a=b"]}``.
    """
    filters: dict[str, list[str]] = {}
    for item in text.split(","):
        name, separator, value = item.strip().partition("=")
        if separator:
            filters.setdefault(name, []).append(value)
    return filters


def parse_wait(text: str) -> tuple[float, float]:
    """Read ``MIN:MAX`` with Go's units, as in ``100ms:2s``.

    Returns
    -------
    tuple of float
        Seconds of silence to wait for, and seconds to wait at most.

    Raises
    ------
    ValueError
        For anything else.
    """
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    seconds = []
    for part in text.split(":"):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", part)
        if not match:
            raise ValueError(f"{part!r} is not a duration")
        seconds.append(float(match[1]) * units[match[2]])
    low, high = seconds if len(seconds) == 2 else (seconds[0], seconds[0] * 4)
    return low, high


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    """Return a container's environment from its inspect answer."""
    pairs = (item.partition("=") for item in container["Config"].get("Env") or [])
    return {name: value for name, _, value in pairs}


def own_id(mountinfo: str) -> str | None:
    """Find the id of the container we run in.

    Parameters
    ----------
    mountinfo : str
        Text of ``/proc/self/mountinfo``: Docker mounts ``/etc/hostname`` and others from
        ``/var/lib/docker/containers/<id>/`` (https://docs.kernel.org/filesystems/proc.html).

    Returns
    -------
    str or None
        The full id, or None outside of Docker.
    """
    for line in mountinfo.splitlines():
        _, separator, rest = line.partition("/containers/")
        container, slash, name = rest.split(" ", 1)[0].partition("/")
        if separator and slash and name in ("hostname", "hosts", "resolv.conf"):
            return container
    return None
