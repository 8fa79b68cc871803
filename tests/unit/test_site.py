"""What nginx does with the settings of a site, on this machine and with a small app behind it."""

import gzip
import http.client
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.connection
import h2.events
import jinja2
import pytest
from module_utils.app import App
from module_utils.releases import LINKS, SPEAKS_HTTP, Release
from site_settings import nginx_refusal

ROLES = Path(__file__).parents[2] / "roles"
# scripts/test-programs unpacks nginx if it is not installed.
UNPACKED = ROLES.parent / ".cache/nginx/usr/sbin"
NGINX = shutil.which("nginx", path=f"/usr/sbin:/usr/bin:/usr/local/sbin:{UNPACKED}")
PAGE = "<p>" + "text " * 2000
# The hash of "secret", made by `openssl passwd -6`.
HASH = (
    "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/"
    "cZ/1GM/O6IND4WQhG."
)
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


class Uwsgi(socketserver.StreamRequestHandler):
    """Answer one request over uWSGI's protocol: the path chooses what."""

    def handle(self) -> None:
        path, host, size = self.read()
        body = self.rfile.read(size).decode()
        kind = "text/event-stream" if path == "/events" else "text/html"
        more = f"X-Frame-Options: SAMEORIGIN\r\nX-Of-App: yes\r\nX-Host: {host}\r\nX-Body: {body}"
        more += f"\r\nX-Protocol: {type(self).__name__}"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n\r\n"
        self.wfile.write(f"{head}{PAGE}".encode())

    def read(self) -> tuple[str, str, int]:
        """Read a request, and return its path, its host, and the length of its body."""
        head = self.rfile.read(4)
        block = self.rfile.read(int.from_bytes(head[1:3], "little"))
        variables, at = {}, 0
        while at < len(block):
            words = []
            for _ in range(2):
                size = int.from_bytes(block[at : at + 2], "little")
                words.append(block[at + 2 : at + 2 + size].decode())
                at += 2 + size
            variables[words[0]] = words[1]
        size = int(variables["CONTENT_LENGTH"] or 0)
        return variables["PATH_INFO"], variables["HTTP_HOST"], size


class Http(Uwsgi):
    """Answer one request over HTTP."""

    def read(self) -> tuple[str, str, int]:
        """Read a request, and return its path, its host, and the length of its body."""
        path = self.rfile.readline().decode().split()[1]
        headers = http.client.parse_headers(self.rfile)
        return path, headers["Host"], int(headers["Content-Length"] or 0)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, handler: type[Uwsgi]) -> None:
        super().__init__(str(path), handler)
        self.path = path
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop, and remove the socket."""
        self.shutdown()
        self.server_close()
        self.path.unlink()


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def render(template: str, role: str = "app", **values: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701  # it is not HTML
        loader=jinja2.FileSystemLoader(ROLES / role / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["bool"] = bool
    environment.tests["version"] = lambda version, other, relation: False
    return environment.get_template(f"{template}.j2").render(values)


def temp_paths(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)


class Edge:
    """A running nginx with one site."""

    def __init__(self, root: Path, allowed: list[str] | None = None, **entry: Any) -> None:
        self.root, self.port, self.http2_port = root, free_port(), free_port()
        app = App.from_entry({"name": "shop", "domains": ["shop.test"], "health": "/ok", **entry})
        self.site = app.derived()["site"]
        self.handler = Http if app.kind == "http" else Uwsgi
        self.socket = f"routes/shop/{LINKS[app.kind]}/run"
        values = {
            "app_entry": app.entry(),
            "app_releases_kept": 2,
            "__app_claims": [],
            "__app_model": app.derived(),
            "__app_static_slots": ["current"],
        }
        for folder in ("conf.d", "vhost.d", "errors/shop", self.socket, "temp"):
            (root / folder).mkdir(parents=True)
        if app.kind == "http":
            (root / "routes/shop" / SPEAKS_HTTP).touch()
        (root / "errors/413.html").write_text("the edge's 413")
        (root / "errors/401.html").write_text("the edge's 401")
        (root / "errors/502.html").write_text("the edge's 502")
        (root / "errors/504.html").write_text("the edge's 504")
        self.write("conf.d/flask-vps-shop.responses", render("vhost/responses", **values))
        if allowed is not None:
            state = {"maintenance": True, "maintenance_reason": "", "maintenance_allow": allowed}
            values |= {f"app_{name}": value for name, value in state.items()}
            text = render("vhost/maintenance", **values)
            self.write("conf.d/flask-vps-shop.maintenance", text)
        servers = f"server {{ listen 127.0.0.1:{self.port} default_server; return 444; }}\n"
        for file in self.site["files"]:
            text = render(f"vhost/{file['template']}", site_host=file["host"], **values)
            self.write(f"vhost.d/{file['name']}", text)
        for host, name in zip(self.site["hosts"], self.site["files"][::2], strict=True):
            file = f"vhost.d/{name['name']}"
            servers += (
                f"server {{ listen 127.0.0.1:{self.port}; server_name {host}; "
                f"listen 127.0.0.1:{self.http2_port} http2; "
                f"include {file}; include {file}_location_override; }}\n"
            )
        shared = render(
            "flask-vps.conf",
            "proxy",
            proxy_http_port=f"127.0.0.1:{free_port()}",
            proxy_https_port=f"127.0.0.1:{free_port()}",
            proxy_trusts_downstream=False,
            proxy_open_requests_per_client=0,
            __proxy_has_ipv6=False,
            __proxy_nginx_version="0",
        )
        maps = "".join(
            f"map '' ${name} {{ default '{value}'; }}\n"
            for name, value in {
                "proxy_x_forwarded_port": "443",
                "proxy_x_forwarded_proto": "https",
                "proxy_x_forwarded_for": "192.0.2.7",
            }.items()
        )
        user = "user root;" if Path("/root").owner() == "root" and root.owner() == "root" else ""
        self.write(
            "nginx.conf",
            f"{user} pid {root}/nginx.pid; error_log {root}/error.log; events {{}}\n"
            f"http {{ types {{ text/html html; }} access_log off;\n"
            f"{temp_paths(root / 'temp')}{maps}{shared}{servers}}}",
        )

    def write(self, name: str, text: str) -> None:
        for there, here in (
            ("/etc/nginx/conf.d", "conf.d"),
            ("/srv/errors", "errors"),
            ("/srv/static", "static"),
            ("/routes", "routes"),
        ):
            text = text.replace(there, f"{self.root}/{here}")
        (self.root / name).write_text(text)

    def listen(self) -> Server:
        return Server(self.root / self.socket / "app.sock", self.handler)

    def start(self) -> None:
        self.app = self.listen()
        command = [NGINX, "-p", str(self.root), "-c", str(self.root / "nginx.conf")]
        self.process = subprocess.Popen([*command, "-g", "daemon off;"])
        for _ in range(100):
            with socket.socket() as made:
                if made.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.root / "error.log").read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.app.close()

    def ask(
        self, path: str = "/", host: str = "shop.test", method: str = "GET", **options: Any
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Host": host, **options.pop("headers", {})}
        connection.request(method, path, headers=headers, **options)
        answer = connection.getresponse()
        answer.text = answer.read()
        connection.close()
        return answer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start nginx with an entry; entries of the same keys share one."""
    running: dict[str, Edge] = {}

    def start(**entry: Any) -> Edge:
        key = repr(sorted(entry.items()))
        if key not in running:
            edge = Edge(tmp_path_factory.mktemp("edge"), **entry)
            edge.start()
            running[key] = edge
        return running[key]

    yield start
    for edge in running.values():
        edge.stop()


LOGIN = {"Authorization": "Basic YW5uYTpzZWNyZXQ="}


def is_zipped(answer: http.client.HTTPResponse) -> bool:
    if answer.headers["Content-Encoding"] != "gzip":
        return False
    assert gzip.decompress(answer.text).decode() == PAGE
    return True


# -- redirects and wildcards ----------------------------------------------------------------------


def test_an_old_domain_redirects_with_path_and_query(run: Any) -> None:
    edge = run(redirect=["www.shop.test", "old.test"])
    for host in ("www.shop.test", "old.test"):
        answer = edge.ask("/a%20b/?q=1&r=%2F", host)
        assert answer.status == 301
        assert answer.headers["Location"] == "https://shop.test/a%20b/?q=1&r=%2F"
    # Not even with a name of the client's choice.
    assert edge.ask("//evil.test/", "old.test").headers["Location"].startswith("https://shop.test/")
    assert edge.ask().status == 200


def test_a_wildcard_serves_each_name_one_level_below(run: Any) -> None:
    edge = run(domains=["*.shop.test"], tls="own")
    for host in ("a.shop.test", "B.shop.test"):
        assert edge.ask(host=host).headers["X-Host"] == host.lower()
    for host in ("a.b.shop.test", "shop.test", "axshop.test"):
        with pytest.raises(ConnectionError):
            edge.ask(host=host)


# -- passwords ------------------------------------------------------------------------------------


def protected(run: Any) -> Edge:
    edge = run(
        basic_auth=["anna"], basic_auth_except=["/api", "/a+b/ü"], redirect=["www.shop.test"]
    )
    edge.write("conf.d/flask-vps-shop.users", f"anna:{HASH}\n")
    return edge


def test_a_password_is_needed(run: Any) -> None:
    edge = protected(run)
    answer = edge.ask("/")
    assert (answer.status, answer.text) == (401, b"the edge's 401")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Access to shop"'
    assert edge.ask("/", headers=LOGIN).status == 200
    wrong = {"Authorization": "Basic YW5uYTp3cm9uZw=="}
    assert edge.ask("/", headers=wrong).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/ok",
        "/ok?a=1",
        "/api",
        "/api/",
        "/api/x?y=/",
        "/a+b/%C3%BC/x",
        "/api/a%20b%0Ac",
        "/.well-known/acme-challenge/x",
    ],
)
def test_exceptions_need_none(path: str, run: Any) -> None:
    assert protected(run).ask(path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/okay",
        "/ok/x",
        "/apis",
        "/API/x",
        "/x/api/",
        "/api/../x",
        "/api/%2e%2e/x",
        "/api%2f..%2fx",
        "/api//../../x",
        # An app that reads the request itself may see /x/..., and take the rest for a value.
        "/x/../api/y",
        "/x/..%2fapi/y",
        "/x/../ok",
        "/x?/api/",
        "/x%20/api",
        "/api%3f/../../x",
    ],
)
def test_nothing_else_is_an_exception(path: str, run: Any) -> None:
    # nginx refuses a path that leads out of the site.
    assert protected(run).ask(path).status in (400, 401)


def test_the_question_of_a_deploy_and_redirects_need_none(run: Any) -> None:
    edge = protected(run)
    (edge.root / "routes/shop/current/0123456789ab").touch()
    assert edge.ask("/.well-known/flask-vps-release/0123456789ab").status == 200
    assert edge.ask("/x", "www.shop.test").status == 301


def test_the_front_page_is_closed_even_as_the_health_path(run: Any) -> None:
    edge = run(basic_auth=["anna"], health="/")
    edge.write("conf.d/flask-vps-shop.users", f"anna:{HASH}\n")
    assert edge.ask("/").status == 401


def test_a_site_without_users_is_open(run: Any) -> None:
    assert run().ask("/").status == 200


# -- headers and compression ----------------------------------------------------------------------


# An app with its own image speaks HTTP.
OWN_IMAGE = {"dockerfile": "Dockerfile", "port": 80}


@pytest.mark.parametrize("kind", [{}, OWN_IMAGE], ids=["uwsgi", "http"])
def test_headers_replace_those_of_the_app(kind: dict[str, Any], run: Any) -> None:
    policy = "default-src 'self';\n  img-src \"x\\y\""
    edge = run(
        headers={
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": policy,
            "X-Number": 0,
            "Strict-Transport-Security": "max-age=9; preload",
            "X-Content-Type-Options": "nosniff",
        },
        **kind,
    )
    for answer in (edge.ask(), edge.ask(method="POST", body="x" * (17 << 20))):
        assert answer.headers.get_all("X-Frame-Options") == ["DENY"]
        assert answer.headers["Content-Security-Policy"] == ("default-src 'self'; img-src \"x\\y\"")
        assert answer.headers["X-Number"] == "0"
        assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert edge.ask().headers.get_all("Strict-Transport-Security") == ["max-age=9; preload"]
    assert edge.ask().headers["X-Of-App"] == "yes"
    assert run(**kind).ask().headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert run(**kind).ask().headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]


ZIP = {"Accept-Encoding": "gzip"}
COOKIE = {**ZIP, "Cookie": "session=1"}


@pytest.mark.parametrize("kind", [{}, OWN_IMAGE], ids=["uwsgi", "http"])
@pytest.mark.parametrize(
    ("headers", "zipped"),
    [
        (ZIP, True),
        ({}, False),
        (COOKIE, False),
        ({**COOKIE, "Sec-Fetch-Site": "same-origin"}, True),
        ({**COOKIE, "Sec-Fetch-Site": "none"}, True),
        ({**COOKIE, "Sec-Fetch-Site": "same-site"}, False),
        ({**COOKIE, "Sec-Fetch-Site": "cross-site"}, False),
        ({**ZIP, **LOGIN}, False),
        ({**ZIP, **LOGIN, "Sec-Fetch-Site": "same-origin"}, True),
        ({**ZIP, "Authorization": "Bearer x"}, True),
        ({**ZIP, "Sec-Fetch-Site": "cross-site"}, True),
        ({**ZIP, "Via": "1.1 cdn"}, True),
    ],
)
def test_pages_are_compressed_unless_another_site_may_measure_them(
    headers: dict[str, str], zipped: bool, kind: dict[str, Any], run: Any
) -> None:
    answer = run(**kind).ask(headers=headers)
    assert is_zipped(answer) is zipped
    assert answer.status == 200
    assert not zipped or answer.headers["Vary"] == "Accept-Encoding"
    # Compression leaves the other settings as they are.
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_streams_are_not_compressed_and_nothing_is_where_it_is_off(run: Any) -> None:
    assert not is_zipped(run().ask("/events", headers=ZIP))
    assert not is_zipped(run(gzip=False).ask(headers=ZIP))


# -- releases with different protocols ------------------------------------------------------------


class Deployed(Edge):
    """A running nginx whose site changes between releases with two protocols."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / self.socket).rmdir()
        (root / "routes/shop/current").rmdir()
        self.live = ""

    def listen(self) -> Server:
        return self.deploy("a", "uwsgi")

    def deploy(self, name: str, protocol: str) -> Server:
        """Start a release, and switch the traffic to it."""
        folder, routes = self.root / f"app/releases/{name}", self.root / "routes/shop"
        for made in (folder, routes / name / "run"):
            made.mkdir(parents=True)
        started = Server(routes / name / "run/app.sock", {"uwsgi": Uwsgi, "http": Http}[protocol])
        options = {"routes": routes, "static": self.root / "temp", "protocol": protocol}
        options |= {"kept": [], "slots": 0, "leaves": self.live, "rolled_back": False}
        assert Release(self.root / "app", name).go_live(options)
        self.live, self.app = name, started
        return started

    def upload(self) -> http.client.HTTPConnection:
        """Begin a request whose body is complete only later."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest("POST", "/upload", skip_host=True)
        for name, value in {"Host": "shop.test", "Content-Length": "4"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"ab")
        # nginx has read what was sent before another connection's request.
        self.ask()
        return connection


def finish(upload: http.client.HTTPConnection) -> http.client.HTTPResponse:
    upload.send(b"cd")
    answer = upload.getresponse()
    answer.text = answer.read()
    upload.close()
    return answer


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    edge = Deployed(tmp_path)
    edge.start()
    yield edge
    edge.stop()


def test_a_switch_between_protocols_needs_no_reload(deployed: Deployed) -> None:
    for name, protocol in {"b": "http", "c": "http", "d": "uwsgi", "e": "http"}.items():
        old, upload = deployed.app, deployed.upload()
        deployed.deploy(name, protocol)
        assert deployed.ask().headers["X-Protocol"].lower() == protocol
        assert is_zipped(deployed.ask(headers=ZIP))
        (deployed.root / f"routes/shop/{name}/{name}").touch()
        assert deployed.ask(f"/.well-known/flask-vps-release/{name}").status == 200
        answer = finish(upload)
        assert (answer.status, answer.headers["X-Body"]) == (200, "abcd")
        old.close()
        assert deployed.ask().headers["X-Protocol"].lower() == protocol
    # Negative control: nginx does look at the file.
    (deployed.root / "routes/shop" / SPEAKS_HTTP).unlink()
    assert deployed.ask().status == 502


# -- error pages and lines ------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_site_has_its_own_pages_or_those_of_the_edge(chunked: bool, run: Any) -> None:
    edge = run()
    body = [b"x" * (1 << 20)] * 17 if chunked else b"x" * (17 << 20)
    answer = edge.ask(method="POST", body=iter(body) if chunked else body)
    assert (answer.status, answer.text) == (413, b"the edge's 413")
    own = edge.root / "errors/shop/413.html"
    own.write_text("too much for the shop")
    answer = edge.ask(method="POST", body=iter(body) if chunked else body)
    own.unlink()
    assert (answer.status, answer.text) == (413, b"too much for the shop")
    assert answer.headers["Content-Type"] == "text/html"
    # A visitor cannot request a page itself.
    assert edge.ask("/.errors/413.html").status == 404


@pytest.mark.parametrize("users", [[], ["anna"]])
def test_a_site_in_maintenance_has_its_own_page_or_that_of_the_edge(
    users: list[str], run: Any
) -> None:
    edge = run(allowed=[], basic_auth=users)
    (edge.root / "errors/503.html").write_text("the edge's 503")
    for name in ("", "503", "maintenance"):
        text = f"the shop's {name}" if name else "the edge's 503"
        if name:
            (edge.root / f"errors/shop/{name}.html").write_text(text)
        answer = edge.ask("/any")
        assert (answer.status, answer.text.decode()) == (503, text)
        assert answer.headers["Retry-After"] == "120"
    # Whoever is allowed gets the site, but only with the password.
    assert run(allowed=["127.0.0.1/32"], basic_auth=users).ask("/any").status == (
        401 if users else 200
    )


def test_a_large_request_over_http2_gets_the_page_as_well(run: Any) -> None:
    edge, client = run(), h2.connection.H2Connection()
    client.initiate_connection()
    headers = {":method": "POST", ":path": "/", ":scheme": "http", ":authority": "shop.test"}
    client.send_headers(1, [*headers.items(), ("content-length", str(17 << 20))])
    answer = b""
    with socket.create_connection(("127.0.0.1", edge.http2_port), timeout=10) as connection:
        connection.sendall(client.data_to_send())
        while events := client.receive_data(connection.recv(65536)):
            answer += b"".join(e.data for e in events if isinstance(e, h2.events.DataReceived))
            if any(isinstance(event, h2.events.StreamEnded) for event in events):
                break
            connection.sendall(client.data_to_send())
    assert answer == b"the edge's 413"


def test_lines_of_the_entry_are_part_of_the_server(run: Any) -> None:
    lines = """
    location = /robots.txt { return 200 "own"; }
    location /closed/ {
        deny all;
        try_files /dev/null @app;
    }
    location /inner/ { try_files /dev/null @app; }
    """
    edge = run(nginx=lines)
    assert edge.ask("/robots.txt").text == b"own"
    assert edge.ask("/closed/x").status == 403
    assert edge.ask("/inner/x").text.decode() == PAGE
    assert edge.ask("/").status == 200


@pytest.fixture
def check(tmp_path: Path) -> Any:
    """Run check-site on a configuration with one live site."""
    etc = tmp_path / "nginx"
    candidates = etc / "conf.d/flask-vps-shop.candidate"
    (etc / "vhost.d").mkdir(parents=True)
    candidates.mkdir(parents=True)
    script = (ROLES / "app/files/check-site").read_text().replace("/etc/nginx", str(etc))
    (etc / "uwsgi_params").write_text("")
    (etc / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ "
        f"access_log off; {temp_paths(tmp_path)} include {etc}/conf.d/*.conf; }}"
    )
    server = f"include {etc}/vhost.d/shop.test; include {etc}/vhost.d/shop.test_location_override;"
    (etc / "conf.d/default.conf").write_text(
        "server { listen 127.0.0.1:9; server_name shop.test; server_tokens off; "
        f"location /x {{ include uwsgi_params; }} {server} }}"
    )
    for folder in (etc / "vhost.d", candidates):
        (folder / "shop.test").write_text("# the live one\n")
        (folder / "shop.test_location_override").write_text("location / { return 204; }\n")

    def run(text: str, domain: str = "shop.test") -> subprocess.CompletedProcess[str]:
        (candidates / domain).write_text(f"set $a b;\n{text}\n")
        (candidates / f"{domain}_location_override").write_text("location / { return 204; }\n")
        (candidates / "flask-vps-shop.responses").write_text("gzip off;\n")
        path = f"{Path(NGINX).parent}:/usr/bin:/bin"
        command = ["sh", "-c", script, "check-site", "shop"]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": path})
        assert (etc / "vhost.d/shop.test").read_text() == "# the live one\n"
        return done

    return run


@pytest.mark.parametrize("domain", ["shop.test", "new.test"])
def test_lines_are_checked_before_they_are_used(domain: str, check: Any) -> None:
    assert check("gzip on;", domain).returncode == 0
    done = check("gzipp on;", domain)
    assert done.returncode != 0
    assert nginx_refusal(done.stderr, "set $a b;\ngzipp on;") == (
        'unknown directive "gzipp", at the line `gzipp on;`.'
    )
    # nginx-proxy sets this in each server.
    assert "duplicate" in check("server_tokens off;", domain).stderr
    assert "unexpected" in check("}\nserver {", domain).stderr
