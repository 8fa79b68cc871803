"""An ASGI app: Quart, with a WebSocket and a stream."""

import asyncio
from collections.abc import AsyncIterator

from catalog_core import BOOKS
from quart import Quart, request, websocket

app = Quart(__name__)


@app.get("/")
async def index() -> dict[str, object]:
    """Describe the request."""
    return {
        "address": request.remote_addr,
        "url": request.url,
        "books": BOOKS,
        "mark": len(request.headers.get("X-Mark", "")),
    }


@app.get("/slow/<int:seconds>")
async def slow(seconds: int) -> str:
    """Answer late."""
    await asyncio.sleep(seconds)
    return "done"


@app.get("/events")
async def events() -> tuple:
    """Send five events, one each half second."""

    async def each() -> AsyncIterator[bytes]:
        for number in range(5):
            yield f"data: {number}\n\n".encode()
            await asyncio.sleep(0.5)

    return each(), 200, {"Content-Type": "text/event-stream"}


@app.websocket("/echo")
async def echo() -> None:
    """Send each message back."""
    while True:
        await websocket.send(await websocket.receive())
