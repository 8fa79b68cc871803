"""The same app for ASGI servers, with a WebSocket that sends each message back."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import ledger

# Some are occupied by requests of 20 seconds.
threads = ThreadPoolExecutor(12)


def answer(scope: dict, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Let Flask answer a request."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    found = ledger.app.test_client().open(
        scope["path"],
        method=scope["method"],
        query_string=scope["query_string"].decode(),
        data=body,
        content_type=headers.get("content-type"),
    )
    return found.status_code, [(b"content-type", found.content_type.encode())], found.data


async def app(scope: dict, receive, send) -> None:
    """Serve requests and WebSockets."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["type"] != "http":
        # uvicorn takes this for an app without a lifespan.
        raise NotImplementedError(scope["type"])
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    loop = asyncio.get_running_loop()
    status, headers, content = await loop.run_in_executor(threads, answer, scope, body)
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
