"""The load generator records every request, even failed ones."""

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace

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
