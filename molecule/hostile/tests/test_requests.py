"""Forged headers, malformed requests, and clients that use too many resources."""

import dataclasses
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import hostile
import pytest
from conftest import Site, eventually

APPS = [hostile.PROBE, hostile.PROBE_HTTP]
EVIL = "evil.example"
# Forged address, host name, scheme, path prefix, user, client certificate and WSGI variables.
LIES = {
    "Forwarded": f"for=6.6.6.6;host={EVIL};proto=http",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": EVIL,
    "X-Forwarded-Port": "666",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Prefix": "/6.6.6.6",
    "X-Forwarded-Protocol": "6.6.6.6",
    "X-Forwarded-Scheme": "6.6.6.6",
    "X-Forwarded-Server": EVIL,
    "X-Forwarded-Ssl": "6.6.6.6",
    "X-Forwarded-User": EVIL,
    "X-Real-IP": "6.6.6.6",
    "X-Script-Name": "/6.6.6.6",
    "Script-Name": "/6.6.6.6",
    "X-Original-URL": "/6.6.6.6",
    "X-Rewrite-URL": "/6.6.6.6",
    "X-Original-Host": EVIL,
    "X-HTTP-Host-Override": EVIL,
    "X-Host": EVIL,
    "X-Url-Scheme": "6.6.6.6",
    "Front-End-Https": "6.6.6.6",
    "Proxy": f"http://{EVIL}",
    "X-Release": "6.6.6.6",
    "True-Client-IP": "6.6.6.6",
    "CF-Connecting-IP": "6.6.6.6",
    "X-Client-IP": "6.6.6.6",
    "X-Cluster-Client-IP": "6.6.6.6",
    "WL-Proxy-Client-IP": "6.6.6.6",
    "X-ProxyUser-IP": "6.6.6.6",
    "X-Forwarded-Context": "/6.6.6.6",
    "CF-Access-Authenticated-User-Email": EVIL,
    "Remote-User": EVIL,
    "X-Remote-User": EVIL,
    "SSL-Client-Verify": EVIL,
    "X-SSL-Client-S-DN": EVIL,
    # nginx drops names with underscores; to an app they would be the same variables.
    "X_Forwarded_For": "6.6.6.6",
    "X_Forwarded_Host": EVIL,
    "X_Release": "6.6.6.6",
    "Remote_User": EVIL,
    "SCRIPT_NAME": "/6.6.6.6",
    "PATH_INFO": "/6.6.6.6",
}


@dataclasses.dataclass
class Raw:
    """A response with all its headers, duplicates included."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def connect(site: Site, context: ssl.SSLContext | None = None, **options: Any) -> ssl.SSLSocket:
    """Open a TLS connection to a site."""
    if context is None:
        context = ssl.create_default_context(cafile=str(site.ca))
    raw = socket.create_connection(("127.0.0.1", site.https_port), timeout=20)
    return context.wrap_socket(raw, server_hostname=site.domain, **options)


def complete(answer: bytes) -> bool:
    """Tell whether a response with a Content-Length is complete."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return bool(length) and len(body) >= int(length[1])


def exchange(site: Site, request: bytes) -> Raw:
    """Send exactly these bytes, and read the response or until the server closes the connection."""
    with connect(site) as connection:
        connection.sendall(request)
        answer = b""
        while not complete(answer) and (part := connection.recv(65536)):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]
    assert ("transfer-encoding", "chunked") not in headers
    return Raw(int(first.split()[1]), headers, body)


def get(site: Site, path: str = "/echo", host: str | None = None, more: str = "") -> Raw:
    """Send a GET with any Host header, as HTTP/1.0, so that the response is not chunked."""
    named = f"{site.domain}:{site.https_port}" if host is None else host
    return exchange(site, f"GET {path} HTTP/1.0\r\nHost: {named}\r\n{more}\r\n".encode())


@pytest.fixture(params=APPS)
def probe(request: pytest.FixtureRequest, site: Site) -> Site:
    """The app that echoes requests, once behind uWSGI's protocol and once behind HTTP."""
    return site.named(request.param)


@pytest.mark.parametrize("shape", ["absolute", "port", "port 0", "dot", "dot and port", "capitals"])
def test_an_app_sees_the_name_that_nginx_chose(probe: Site, shape: str) -> None:
    name = probe.domain
    target = f"https://{name}/echo" if shape == "absolute" else "/echo"
    host = {
        "absolute": EVIL,
        "port": f"{name}:1",
        "port 0": f"{name}:0443",
        "dot": f"{name}.",
        "dot and port": f"{name}.:{probe.https_port}",
        "capitals": name.upper(),
    }[shape]
    request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    seen = exchange(probe, request.encode()).json
    assert seen["host"] == f"{name}:{probe.https_port}"
    assert seen["url"].startswith(f"https://{name}:{probe.https_port}/echo")
    assert seen["headers"]["X-Forwarded-Host"] == seen["headers"]["Host"] == seen["host"]
    assert EVIL not in json.dumps(seen)


@pytest.mark.parametrize("host", [EVIL, f"{hostile.PROBE}.{EVIL}", "127.0.0.1", "~^.*$"])
def test_another_name_than_the_site_s_gets_no_answer(site: Site, host: str) -> None:
    with connect(site.named(hostile.PROBE)) as connection:
        connection.sendall(f"GET /echo HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert connection.recv(1024) == b""


def test_links_of_the_shipped_app_name_the_site(site: Site) -> None:
    request = (
        f"GET https://{site.domain}/ HTTP/1.1\r\nHost: {EVIL}\r\nX-Forwarded-Host: {EVIL}\r\n"
        "Connection: close\r\n\r\n"
    )
    assert EVIL.encode() not in exchange(site, request.encode()).body
    assert (
        EVIL.encode()
        not in exchange(site, request.replace("/ HTTP", "/sitemap.xml HTTP").encode()).body
    )


def test_drops_proxy_headers_of_clients(probe: Site) -> None:
    lies = "".join(f"{name}: {value}\r\n" for name, value in LIES.items())
    seen = get(probe, more=lies + "X-Mark: passes\r\n").json
    text = json.dumps(seen)
    assert "6.6.6.6" not in text
    assert EVIL not in text
    assert "666" not in seen["headers"]["X-Forwarded-Port"]
    assert seen["headers"]["X-Forwarded-Proto"] == "https"
    assert (seen["scheme"], seen["script_name"], seen["path"]) == ("https", "", "/echo")
    # Negative control.
    assert seen["headers"]["X-Mark"] == "passes"


@pytest.mark.parametrize("protocol", ["h2c", "websocket, h2c", "TLS/1.0", "websocket2"])
def test_no_protocol_but_websocket_leads_past_nginx(site: Site, protocol: str) -> None:
    probe = site.named(hostile.PROBE_HTTP)
    more = "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: {}\r\n"
    seen = get(probe, more=more.format(protocol)).json["headers"]
    assert "Upgrade" not in seen
    assert seen.get("Connection", "close").lower() == "close"
    # Negative control: the upgrade reaches Flask, which has no route for a WebSocket.
    assert get(probe, more=more.format("WebSocket")).status == 400


BODY = b"payload of a webhook " * 4000


def chunked(body: bytes, size: int, trailer: bytes = b"") -> bytes:
    """Encode a body in chunks."""
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n" + trailer + b"\r\n"


@pytest.mark.parametrize(
    ("body", "size", "coding"),
    [
        (b"7 bytes", 7, "chunked"),
        (b"7 bytes", 1, "Chunked"),
        (b"", 1, "chunked"),
        (BODY, 1000, "chunked"),
        (BODY, 70000, "chunked"),
    ],
)
def test_a_chunked_body_arrives_whole(probe: Site, body: bytes, size: int, coding: str) -> None:
    head = (
        f"POST /echo HTTP/1.1\r\nHost: {probe.domain}\r\nTransfer-Encoding: {coding}\r\n"
        "Content-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
    )
    seen = exchange(probe, head.encode() + chunked(body, size, b"X-Trailer: 1\r\n")).json
    assert seen["length"] == len(body)
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()
    assert "Transfer-Encoding" not in seen["headers"]


@pytest.mark.parametrize(
    "headers",
    [
        "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 7\r\nContent-Length: 8\r\n",
        "Content-Length: -1\r\n",
    ],
)
def test_a_body_of_two_lengths_is_refused(probe: Site, headers: str) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: {probe.domain}\r\n{headers}Connection: close\r\n\r\n"
    answer = exchange(probe, head.encode() + chunked(b"7 bytes", 7))
    assert answer.status in (400, 501)


def test_a_body_that_is_too_large_is_refused_with_a_page(probe: Site) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: {probe.domain}\r\nContent-Length: 99999999\r\n\r\n"
    answer = exchange(probe, head.encode())
    assert answer.status == 413
    assert b"larger than this site accepts" in answer.body
    assert answer.all("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("size", [3000, 8000, 20000, 32768])
def test_large_headers_of_an_answer_arrive(probe: Site, size: int) -> None:
    answer = get(probe, f"/headers/{size}")
    assert answer.status == 200
    assert sum(value.count("x") for value in answer.all("set-cookie")) >= size


def test_large_headers_of_a_request_arrive(site: Site) -> None:
    probe = site.named(hostile.PROBE)
    seen = get(probe, more=f"Cookie: a={'x' * 30000}\r\nX-Mark: {'y' * 20000}\r\n").json
    assert len(seen["headers"]["Cookie"]) == 30002
    assert len(seen["headers"]["X-Mark"]) == 20000
    refused = get(probe, more="".join(f"X-Mark-{n}: {'y' * 9000}\r\n" for n in range(12)))
    assert refused.status in (400, 431)


def test_pages_and_files_of_nginx_have_nosniff(site: Site) -> None:
    probe = site.named(hostile.PROBE)
    static = get(probe, "/static/style.css")
    assert static.status == 200
    for answer in (static, get(probe, "/.errors/502.html"), get(probe, "/static/%00")):
        assert answer.all("x-content-type-options") == ["nosniff"]
    # The edge does not add the header to an app's responses; the shipped app sets it itself.
    assert get(probe).all("x-content-type-options") == []
    assert get(site, "/").all("x-content-type-options") == ["nosniff"]
    for answer in (static, get(probe), get(site, "/")):
        assert len(answer.all("strict-transport-security")) == 1


def test_an_app_may_say_itself_how_long_https_is_for_good(probe: Site) -> None:
    own = "max-age=60; includeSubDomains"
    assert get(probe, "/strict").all("strict-transport-security") == [own]
    assert get(probe).all("strict-transport-security") == ["max-age=31536000"]


def test_the_edge_answers_for_an_app_that_is_down(site: Site) -> None:
    probe = site.named(hostile.PROBE_HTTP)
    named = ("label=flask-vps.app=probe_http", "label=com.docker.compose.service=web")
    filters = [option for name in named for option in ("--filter", name)]
    container = site.on_server("docker", "ps", "--quiet", *filters).strip()
    site.on_server("docker", "kill", container)
    try:
        answer = get(probe)
    finally:
        site.on_server("docker", "start", container)
    assert answer.status == 502
    assert b"does not answer" in answer.body
    assert answer.all("x-content-type-options") == ["nosniff"]

    def is_back() -> None:
        assert get(probe).status == 200

    eventually(is_back)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("", 200),
        ("Range: bytes=0-1\r\n", 206),
        ("Range: bytes=99999-\r\n", 416),
        ("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n", 200),
        ('If-Match: "another"\r\n', 412),
    ],
)
def test_each_answer_to_a_static_file_has_its_headers_once(
    site: Site, more: str, status: int
) -> None:
    answer = get(site.named(hostile.PROBE), "/static/style.css", more=more)
    assert answer.status == status
    for name in ("strict-transport-security", "x-content-type-options"):
        assert len(answer.all(name)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "GET / HTTP/9.9",
        "GET / HTTP/1.1",
        "\x00\x01",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        "TRACE / HTTP/1.1\r\nHost: a",
    ],
)
def test_early_errors_do_not_name_the_version(site: Site, line: str) -> None:
    answer = exchange(site, f"{line}\r\n\r\n".encode())
    assert answer.status >= 400
    text = str(answer.headers) + answer.body.decode()
    assert "nginx/" not in text


def test_plain_http_to_the_tls_port_does_not_name_the_version(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.https_port), timeout=20) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while part := raw.recv(4096):
            answer += part
    assert b" 400 " in answer
    assert b"nginx/" not in answer


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_session_is_taken_up_again(site: Site, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(site.ca))
    context.minimum_version = context.maximum_version = version
    session = None
    for attempt in range(5):
        with connect(site, context, session=session) as connection:
            assert connection.session_reused is (attempt > 0)
            # In TLS 1.3 the session ticket comes with the response.
            connection.sendall(f"GET / HTTP/1.0\r\nHost: {site.domain}\r\n\r\n".encode())
            while connection.recv(65536):
                pass
            session = connection.session


@pytest.mark.parametrize(
    ("curve", "taken"),
    [("X448", False), ("secp521r1", False), ("prime256v1", True), ("secp384r1", True)],
)
def test_curves_are_those_of_the_intermediate_configuration(
    site: Site, curve: str, taken: bool
) -> None:
    command = ["timeout", "20", "openssl", "s_client", "-connect", f"127.0.0.1:{site.https_port}"]
    command += ["-servername", site.domain, "-groups", curve]
    said = hostile.run_here(*command)
    assert ("Cipher is (NONE)" not in said) == taken, said


def limit(site: Site) -> int:
    """Return how many requests one client may have open."""
    shared = "/var/lib/docker/volumes/edge_conf/_data/flask-vps.conf"
    text = site.on_server("grep", "-o", "flask_vps_clients [0-9]*", shared)
    return int(text.split()[1])


ASK_HEALTH = r"""
import socket, ssl, sys
raw = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
tls = ssl._create_unverified_context().wrap_socket(raw, server_hostname=sys.argv[3])
tls.sendall(f"GET /health HTTP/1.0\r\nHost: {sys.argv[3]}\r\n\r\n".encode())
answer = tls.recv(4096)
assert b" 200 " in answer, answer
"""


@pytest.fixture
def others(site: Site) -> Iterator[list[float]]:
    """Response times in seconds of another client, which sends requests from the server."""
    took: list[float] = []
    stop = threading.Event()
    address = site.on_server(
        "docker",
        "inspect",
        "-f",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}",
        "edge-nginx-1",
    ).split()[0]

    def ask() -> None:
        while not stop.is_set():
            begin = time.monotonic()
            port = str(site.https_port)
            site.on_server("python3", "-c", ASK_HEALTH, address, port, hostile.PROBE)
            took.append(time.monotonic() - begin)
            time.sleep(0.1)

    thread = threading.Thread(target=ask)
    thread.start()
    yield took
    stop.set()
    thread.join()


# No release is named x, so nginx responds with 502.
ASK_LOOPBACK = r"""
exec 3<>/dev/tcp/127.0.0.1/3031
printf 'GET / HTTP/1.0\r\nHost: x\r\nX-Release: x\r\n\r\n' >&3
head -c 12 <&3 | grep -q 502
"""


def test_one_client_s_open_requests_have_a_limit(site: Site) -> None:
    probe = site.named(hostile.PROBE)
    most = limit(site)
    head = f"POST /echo HTTP/1.1\r\nHost: {probe.domain}\r\nContent-Length: 100\r\n\r\nx"
    statuses = []
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(probe))) for _ in range(most + 10)]
        for connection in held:
            connection.sendall(head.encode())
        time.sleep(1)
        for connection in held:
            connection.settimeout(0.05)
            try:
                statuses.append(connection.recv(65536).split()[1])
            except TimeoutError:
                continue
        assert statuses == [b"429"] * 10
        # Deploys are not limited: they send their requests over the loopback.
        site.on_server("docker", "exec", "edge-nginx-1", "bash", "-c", ASK_LOOPBACK)
    assert get(probe).status == 200


def h2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def h2_get(site: Site, stream: int, path: str) -> bytes:
    """Make a HEADERS frame with literal fields without indexing (RFC 7541, section 6.2.2)."""
    fields = {":method": "GET", ":scheme": "https", ":authority": site.domain, ":path": path}
    block = b"".join(
        b"\x00" + bytes([len(n)]) + n.encode() + bytes([len(v)]) + v.encode()
        for n, v in fields.items()
    )
    return h2_frame(1, 0x5, stream, block)


def test_resets_of_one_client_do_not_keep_others_waiting(site: Site, others: list[float]) -> None:
    probe = site.named(hostile.PROBE)
    context = ssl.create_default_context(cafile=str(site.ca))
    context.set_alpn_protocols(["h2"])
    sent = 0
    end = time.monotonic() + 6
    while sent < 5000 and time.monotonic() < end:
        with connect(probe, context) as connection:
            assert connection.selected_alpn_protocol() == "h2"
            try:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0))
                for stream in range(1, 1000, 2):
                    reset = h2_frame(3, 0, stream, (8).to_bytes(4, "big"))
                    connection.sendall(h2_get(probe, stream, "/slow/0.05") + reset)
                    sent += 1
            except OSError:
                # nginx closes a connection with too many resets.
                continue
    while len(others) < 4:
        time.sleep(0.2)
    assert sent >= 1000
    assert max(others) < 4, others


def test_a_body_that_stands_still_is_given_up(site: Site) -> None:
    probe = site.named(hostile.PROBE)
    with connect(probe) as connection:
        connection.settimeout(40)
        head = f"POST /echo HTTP/1.1\r\nHost: {probe.domain}\r\nContent-Length: 100\r\n\r\nx"
        connection.sendall(head.encode())
        begin = time.monotonic()
        with suppress(ConnectionResetError):
            assert connection.recv(1024) == b""
        assert time.monotonic() - begin < 30
