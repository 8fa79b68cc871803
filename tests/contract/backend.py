"""An application for tests that echoes requests as JSON. Runs inside a container.

Arguments: protocol (http or uwsgi) and port. Only the standard library, Python 3.11 or newer.
"""

import json
import os
import socketserver
import struct
import sys
from http.server import BaseHTTPRequestHandler


class HttpEcho(BaseHTTPRequestHandler):
    """Responds with the request's headers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(
            {
                "name": os.environ["ECHO_NAME"],
                "path": self.path,
                "headers": {k.lower(): v for k, v in self.headers.items()},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 # the name is http.server's


class UwsgiEcho(socketserver.StreamRequestHandler):
    """Responds with the request's variables.

    Packet: modifier (1 byte), size (2 bytes, little endian), modifier; then pairs of strings,
    each with its size in front. https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html
    """

    def handle(self):
        _, size, _ = struct.unpack("<BHB", self.rfile.read(4))
        data, strings = self.rfile.read(size), []
        while data:
            (length,) = struct.unpack_from("<H", data)
            strings.append(data[2 : 2 + length].decode())
            data = data[2 + length :]
        variables = dict(zip(strings[::2], strings[1::2], strict=True))
        body = json.dumps({"name": os.environ["ECHO_NAME"], "variables": variables}).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    handler = {"http": HttpEcho, "uwsgi": UwsgiEcho}[sys.argv[1]]
    Server(("", int(sys.argv[2])), handler).serve_forever()
