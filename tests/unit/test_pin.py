"""Pinning of images, against a registry that behaves like Docker Hub."""

import hashlib
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
MANIFEST = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
TEXT = """---
# A comment stays.
images_upstream:
  nginx: {nginx}
  proxy: {proxy}

images_debian_revision: "1"
"""


@pytest.fixture
def pin() -> ModuleType:
    loader = SourceFileLoader("pin", str(ROOT / "scripts/pin"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("pin", loader))
    loader.exec_module(module)
    return module


class Registry(BaseHTTPRequestHandler):
    """A registry that gives tokens to all clients, and images to clients with a token."""

    def do_GET(self) -> None:
        token = self.path.startswith("/token?")
        if token and "scope=repository%3Alibrary%2Fnginx%3Apull" in self.path:
            return self.answer(200, b'{"token": "t"}')
        if self.path == "/v2/open/proxy/manifests/1.0":
            return self.answer(200, MANIFEST)
        if self.headers.get("Authorization") != "Bearer t":
            return self.answer(401, b"")
        found = self.path == "/v2/library/nginx/manifests/1.29"
        lists = "image.index" in self.headers.get("Accept", "")
        return self.answer(200 if found and lists else 404, MANIFEST)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        realm = f"http://127.0.0.1:{self.server.server_port}/token"
        if status == 401:
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="hub"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_tags_become_digests_and_all_else_stays(pin: ModuleType, registry: str) -> None:
    text = TEXT.format(nginx="nginx:1.29", proxy=f"{registry}/open/proxy:1.0@sha256:{'0' * 64}")
    after, done, failed = pin.pin(text, mirror=f"http://{registry}")
    assert after == TEXT.format(
        nginx=f"nginx:1.29@{DIGEST}", proxy=f"{registry}/open/proxy:1.0@{DIGEST}"
    )
    assert len(done) == 2
    assert failed == []


def test_what_has_no_answer_stays_as_it_is_and_is_named(pin: ModuleType, registry: str) -> None:
    text = TEXT.format(nginx="nginx:9", proxy="127.0.0.1:9/proxy:1.0")
    after, done, failed = pin.pin(text, mirror=f"http://{registry}")
    assert after == text
    assert done == []
    assert "nginx:9: " in failed[0] and "has no such image, or requires a login" in failed[0]
    assert "127.0.0.1:9 does not answer" in failed[1]


def test_the_shipped_versions_are_all_found(pin: ModuleType) -> None:
    images = pin.IMAGE.findall(pin.VERSIONS.read_text())
    assert len(images) == 12
    assert {pin.registry_of("docker.io", "")} == {"https://registry-1.docker.io"}
