"""A WebSocket client for the tests, for short text messages only."""

import os
import socket
from typing import Self

from conftest import Site

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class WebSocket:
    """An open WebSocket to a site, over TLS."""

    def __init__(self, site: Site, path: str, seconds: float = 20) -> None:
        """
        Connect.

        Parameters
        ----------
        site : Site
            The site.
        path : str
            Path of the WebSocket.
        seconds : float, optional
            How long to wait for each message, in seconds.
        """
        self.socket: socket.socket = site.connect().sock
        self.socket.settimeout(seconds)
        host = f"{site.domain}:{site.https_port}"
        head = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Origin: https://{host}"]
        head += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        head += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        self.socket.sendall("\r\n".join(head).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self._read(1)
        self.status = int(answer.split()[1])

    def __enter__(self) -> Self:
        """Return the WebSocket."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, text: str) -> None:
        """Send a message of at most 125 bytes."""
        self._send(text.encode(), TEXT)

    def _send(self, data: bytes, kind: int) -> None:
        # Clients must mask what they send.
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.socket.sendall(bytes([0x80 | kind, 0x80 | len(data)]) + mask + masked)

    def receive(self) -> str:
        """Return the next message; raise ConnectionError if the server closes the WebSocket."""
        while True:
            kind, length = self._read(2)
            if length == 126:
                length = int.from_bytes(self._read(2))
            data = self._read(length)
            if kind & 0xF == CLOSE:
                raise ConnectionError(f"closed by the server: {data!r}")
            if kind & 0xF == PING:
                self._send(data, PONG)
            elif kind & 0xF == TEXT:
                return data.decode()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("closed without a message")
            data += part
        return data
