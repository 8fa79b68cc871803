"""Request a site of this server over TLS, as a visitor would."""

from __future__ import annotations

import re
import socket
import ssl

TIMEOUT_SECONDS = 15


def unverified() -> ssl.SSLContext:
    """Make a context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(domain: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Open a TLS connection to this machine with the name of a domain."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    try:
        return context.wrap_socket(raw, server_hostname=domain)
    except BaseException:
        raw.close()
        raise


def ask(connection: ssl.SSLSocket, domain: str, port: int, path: str) -> int:
    """Request a page and return the status of the answer; 0 if there is none."""
    return answer(connection, domain, port, path)[0]


def answer(connection: ssl.SSLSocket, domain: str, port: int, path: str) -> tuple[int, str]:
    """Request a page and return the status of the answer, and where it redirects."""
    host = domain if port == 443 else f"{domain}:{port}"
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: flask-vps\r\nConnection: close\r\n\r\n"
    )
    connection.sendall(request.encode())
    start = b""
    while b"\r\n\r\n" not in start and len(start) < 65536:
        piece = connection.recv(4096)
        if not piece:
            break
        start += piece
    match = re.match(rb"HTTP/1\.[01] (\d{3})", start)
    location = re.search(rb"(?i)\r\nlocation: *([^\r\n]*)", start.partition(b"\r\n\r\n")[0])
    return int(match[1]) if match else 0, location[1].decode(errors="replace") if location else ""
