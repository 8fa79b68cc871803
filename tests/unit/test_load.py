"""The load generator records every request, even failed ones."""

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace

import h2.config
import h2.connection
import h2.events
import hyperframe.frame
import pytest

from bench.load import Load, Request


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: None)
    return Load("https://site.localhost:8443", Path("ca.pem"), rate=1, slow_seconds=0)


def outcome(load: Load, answer: SimpleNamespace | Exception) -> str:
    """Send one request to a simulated server, and return its recorded outcome."""

    async def request(*_: object, **__: object) -> SimpleNamespace:
        if isinstance(answer, Exception):
            raise answer
        return answer

    load.http1 = SimpleNamespace(request=request)
    kept: list[Request] = []
    asyncio.run(load._send("page", kept.append))
    assert len(kept) == 1
    return kept[0].outcome


def test_a_request_that_ends_in_any_error_is_kept(load: Load) -> None:
    assert outcome(load, KeyError("a stream that the library forgot")).startswith("KeyError: ")
    assert outcome(load, SimpleNamespace(status=502, content=b"")) == "status 502"
    # Negative control.
    assert outcome(load, SimpleNamespace(status=200, content=b"")) == "ok"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request after a GOAWAY, as a server does that reloads."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    stream = 0
    while not stream:
        for event in connection.receive_data(await reader.read(65535)):
            if isinstance(event, h2.events.RequestReceived):
                stream = event.stream_id
    connection.send_headers(stream, [(":status", "200")])
    connection.send_data(stream, b"late", end_stream=True)
    answer = connection.data_to_send()
    goaway = hyperframe.frame.GoAwayFrame(last_stream_id=stream).serialize()
    # Frames do not arrive in one piece.
    for part in (goaway[:5], goaway[5:] + answer[:3], answer[3:]):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.05)
    writer.close()


async def _visit(load: Load, slow: bool) -> str:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    load.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    kept: list[Request] = []
    async with server:
        await load._send("slow, HTTP/2" if slow else "page, HTTP/2", kept.append)
    return kept[0].outcome


def test_a_slow_request_survives_the_graceful_end_of_its_connection(load: Load) -> None:
    assert asyncio.run(_visit(load, slow=True)) == "ok"
    # Negative control: the library alone gives the request up.
    assert "ConnectionTerminated" in asyncio.run(_visit(load, slow=False))
