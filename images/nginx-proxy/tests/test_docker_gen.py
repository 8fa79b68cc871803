"""docker-gen's decisions, without Docker and nginx."""

import http.server
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dockergen.cli import parse_args, write_if_changed
from dockergen.docker_api import (
    Docker,
    DockerError,
    own_id,
    parse_filters,
    parse_wait,
)
from dockergen.model import build, certificate_for
from dockergen.render import render
from dockergen.settings import Config, SettingError, check_host

SRC = Path(__file__).parents[1] / "src"
TEMPLATE = SRC / "nginx.tmpl"
NGINX = {"Name": "/nginx", "NetworkSettings": {"Networks": {"edge": {"Gateway": "172.18.0.1"}}}}


def container(name, network="edge", ports=(), labels=None, **environment):
    """Make what Docker's inspect says of a container."""
    return {
        "Name": f"/{name}",
        "Config": {
            "Env": [f"{key}={value}" for key, value in environment.items()],
            "Labels": labels or {},
        },
        "NetworkSettings": {
            "Ports": dict.fromkeys(ports),
            "Networks": {network: {"IPAddress": f"10.0.0.{len(name)}"}},
        },
    }


def generate(*containers, files=(), nginx=NGINX, internal=(), **environment):
    """Return the configuration and the problems."""
    config = Config.read(environment)
    proxy, problems = build(list(containers), nginx, internal, config, set(files).__contains__)
    return render(TEMPLATE, proxy), problems


def server(text, host, number=0):
    """Return one server block of a host."""
    blocks = [block.split("\n}\n")[0] for block in text.split("\nserver {\n")[1:]]
    return [block for block in blocks if f"server_name {host};" in block][number]


def test_fallback_comes_first_and_is_no_default_server():
    text, _ = generate(container("app", VIRTUAL_HOST="a.test"))
    assert text.index("server_name _;") < text.index("server_name a.test;")
    assert "default_server;" not in text


@pytest.mark.parametrize("proto", ["uwsgi", "fastcgi"])
def test_a_chunked_body_is_not_lost_behind_a_gateway(proto):
    text, _ = generate(container("app", VIRTUAL_HOST="a.test", VIRTUAL_PROTO=proto))
    assert f'{proto}_param HTTP_TRANSFER_ENCODING "" if_not_empty;' in server(text, "a.test")


def test_no_container_gives_a_complete_configuration():
    text, problems = generate()
    assert "return 503" in text and "listen 80;" in text and "listen 443 ssl;" in text
    assert problems == []


@pytest.mark.parametrize(
    ("method", "missing_ok", "listens"),
    [
        ("redirect", "true", ["80", "443 ssl"]),
        ("redirect", "false", ["443 ssl"]),
        ("nohttp", "false", ["443 ssl"]),
        ("nohttps", "false", ["80"]),
    ],
)
def test_http_without_certificate_is_only_served_where_allowed(method, missing_ok, listens):
    text, _ = generate(
        container("app", VIRTUAL_HOST="a.test", HTTPS_METHOD=method),
        ENABLE_HTTP_ON_MISSING_CERT=missing_ok,
    )
    pages = server(text, "a.test", 1 if (method, missing_ok) == ("redirect", "false") else 0)
    assert [
        line.split("listen ")[1].rstrip(";") for line in pages.splitlines() if "listen" in line
    ] == listens
    assert ("ssl_reject_handshake on;" in pages) == ("443 ssl" in listens)


def test_redirect_goes_to_the_https_port():
    files = ["/etc/nginx/certs/a.test.crt", "/etc/nginx/certs/a.test.key"]
    text, _ = generate(container("app", VIRTUAL_HOST="a.test"), files=files, HTTPS_PORT="8443")
    assert "return 301 https://$host:8443$request_uri;" in server(text, "a.test")


def test_key_must_be_there_too():
    files = {"/etc/nginx/certs/a.test.crt"}
    assert certificate_for("a.test", None, True, files.__contains__) is None


@pytest.mark.parametrize(
    ("host", "files", "found"),
    [
        ("www.a.test", ["www.a.test", "a.test", "default"], "www.a.test"),
        ("www.a.test", ["a.test", "default"], "a.test"),
        ("x.www.a.test", ["a.test", "default"], "default"),
        ("a.test", ["test"], None),
    ],
)
def test_certificate_is_the_hosts_own_then_its_parents_then_the_default(host, files, found):
    paths = {f"/etc/nginx/certs/{name}.{end}" for name in files for end in ("crt", "key")}
    assert certificate_for(host, None, True, paths.__contains__) == found


def test_newer_container_decides_and_both_serve():
    old = container("old", VIRTUAL_HOST="a.test", HTTPS_METHOD="nohttps", VIRTUAL_PORT="1")
    new = container("newer", VIRTUAL_HOST="a.test", HTTPS_METHOD="noredirect", VIRTUAL_PORT="2")
    text, _ = generate(new, old)
    assert "listen 443 ssl;" in server(text, "a.test")
    assert "server 10.0.0.3:1;" in text and "server 10.0.0.5:2;" in text


@pytest.mark.parametrize(
    ("ports", "expected"), [([], 80), (["5000/tcp"], 5000), (["5000/tcp", "80/tcp"], 80)]
)
def test_default_port(ports, expected):
    text, _ = generate(container("app", ports=ports, VIRTUAL_HOST="a.test"))
    assert f"server 10.0.0.3:{expected};" in text


def test_container_on_another_network_is_down():
    text, _ = generate(container("app", network="other", VIRTUAL_HOST="a.test"))
    assert "server 127.0.0.1 down;" in text and "10.0.0.3" not in text


def test_container_on_the_hosts_network_is_reached_through_a_gateway():
    nginx = {
        "NetworkSettings": {
            "Networks": {"a": {"Gateway": "10.1.0.1"}, "b": {"Gateway": "10.2.0.1"}}
        }
    }
    text, _ = generate(
        container("app", network="host", VIRTUAL_HOST="a.test"), nginx=nginx, internal=["a"]
    )
    assert "server 10.2.0.1:80;" in text


def test_nginx_that_is_not_there_yet_makes_no_error():
    text, _ = generate(container("app", VIRTUAL_HOST="a.test"), nginx=None)
    assert "server 127.0.0.1 down;" in text


@pytest.mark.parametrize(
    "host",
    ["a.test;", "a test", "a{b", "a\nb", "*a.test", "a.*.test", "*", "a/../b", '"a"', "$host",
     "x" * 64, "~a;", "~a{2}", "~(", "~a\\", "~(?<host>.*)", "~(?P<x>.)", "~a b",
     "~'a'", "~#a", "a..b"],
)  # fmt: skip
def test_host_that_nginx_would_misread_is_refused(host):
    with pytest.raises(SettingError, match="VIRTUAL_HOST"):
        check_host(host)


@pytest.mark.parametrize(
    "host", ["a", "a_b.test", "*.a.test", "a.*", "10.0.0.1", "[fd00::1]", r"~^a\d+\.test$"]
)
def test_host_that_is_fine_is_kept(host):
    assert check_host(host) == host


def test_hosts_are_lower_case_because_nginx_compares_upstreams_that_way():
    text, _ = generate(container("app", VIRTUAL_HOST="A.test,a.TEST"))
    assert text.count("upstream a.test {") == 1


@pytest.mark.parametrize("port", ["0", "65536", "99999", "80;", "-1", "8 0", "८०"])
def test_port_that_nginx_would_refuse_is_refused(port):
    text, problems = generate(container("app", VIRTUAL_HOST="a.test", VIRTUAL_PORT=port))
    assert "a.test" not in text
    assert "app" in problems[0] and "VIRTUAL_PORT" in problems[0]


def test_one_bad_container_leaves_the_others_alone():
    bad = container("bad", VIRTUAL_HOST="b.test", VIRTUAL_DEST="/; } server {")
    text, problems = generate(bad, container("good", VIRTUAL_HOST="g.test"))
    assert "server_name g.test;" in text and "b.test" not in text
    assert len(problems) == 1


def test_bad_name_in_a_list_leaves_the_other_names_alone():
    text, problems = generate(container("app", VIRTUAL_HOST="a.test, b;.test"))
    assert "server_name a.test;" in text
    assert "'b;.test'" in problems[0]


def test_regular_path_with_dest_is_refused_because_nginx_would_refuse_everything():
    _, problems = generate(
        container("app", VIRTUAL_HOST="a.test", VIRTUAL_PATH="~ ^/x", VIRTUAL_DEST="/")
    )
    assert "VIRTUAL_DEST" in problems[0]


def test_same_location_twice_is_refused_because_nginx_would_refuse_everything():
    text, problems = generate(
        container("newer", VIRTUAL_HOST="a.test", VIRTUAL_PATH="/x"),
        container("older", VIRTUAL_HOST="a.test", VIRTUAL_PATH="^~ /x"),
    )
    assert text.count("/x {") == 1
    assert "older" in problems[0]


def test_path_cannot_take_the_acme_challenge():
    path = "/.well-known/acme-challenge/"
    _, problems = generate(container("app", VIRTUAL_HOST="a.test", VIRTUAL_PATH=path))
    assert "VIRTUAL_PATH" in problems[0]


def test_wildcard_is_escaped_in_include():
    files = ["/etc/nginx/vhost.d/*.a.test"]
    text, _ = generate(container("app", VIRTUAL_HOST="*.a.test"), files=files)
    assert r"include /etc/nginx/vhost.d/\*.a.test;" in text


def test_override_replaces_the_location():
    files = ["/etc/nginx/vhost.d/a.test_location_override"]
    text, _ = generate(container("app", VIRTUAL_HOST="a.test"), files=files)
    assert f"include {files[0]};" in text and "proxy_pass" not in text


def test_unsupported_variable_is_named():
    _, problems = generate(container("app", VIRTUAL_HOST="a.test", SSL_POLICY="Mozilla-Modern"))
    assert "SSL_POLICY" in problems[0]


def test_unknown_policy_names_the_supported_ones():
    with pytest.raises(SettingError, match="Mozilla-Intermediate, Mozilla-Modern"):
        Config.read({"SSL_POLICY": "Mozilla-Old"})


@pytest.mark.parametrize(
    "name", ["HTTPS_METHOD", "HTTP_PORT", "ENABLE_IPV6", "LOG_FORMAT", "RESOLVERS"]
)
def test_operators_mistake_is_named(name):
    with pytest.raises(SettingError, match=name):
        Config.read({name: "what'; }"})


def test_ipv6_listens_twice():
    text, _ = generate(ENABLE_IPV6="true")
    assert "listen [::]:80;" in text


def test_file_is_replaced_only_when_different(tmp_path):
    path = tmp_path / "default.conf"
    assert write_if_changed(path, "a") is True
    assert write_if_changed(path, "a") is False
    assert [p.name for p in tmp_path.iterdir()] == ["default.conf"]


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "default.conf"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_if_changed(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["default.conf"]


def test_label_of_nginx_fills_the_commands_placeholder(monkeypatch):
    monkeypatch.setenv("NGINX_CONTAINER_LABEL", "my.nginx")
    args = parse_args(
        ["-watch", "-wait", "100ms:2s", "-notify-filter", "label=$NGINX_CONTAINER_LABEL", "t", "d"]
    )
    assert args.notify_filter == ["label=my.nginx"]
    assert args.wait == (0.1, 2.0)


def test_wait_must_be_a_duration():
    with pytest.raises(ValueError, match="soon"):
        parse_wait("soon")


def test_filters_are_grouped_by_name():
    text = "health=healthy, health=none,label=a=b,odd"
    assert parse_filters(text) == {"health": ["healthy", "none"], "label": ["a=b"]}


def test_own_id_is_read_from_the_mounts():
    line = "1 2 0:1 /var/lib/docker/containers/abc123/hostname /etc/hostname rw - ext4 /dev/a rw"
    assert own_id(line) == "abc123"
    assert own_id("1 2 0:1 / / rw - ext4 /dev/a rw") is None


class FakeEngine(http.server.BaseHTTPRequestHandler):
    """Sends one event and closes the stream, as a stopping engine does."""

    def do_GET(self):
        self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()
        self.wfile.write(b'{"Action": "start"}\n')

    def log_message(self, *_):
        pass


@pytest.fixture
def engine(tmp_path):
    path = str(tmp_path / "docker.sock")
    with socketserver.UnixStreamServer(path, FakeEngine) as fake:
        fake.get_request = lambda: (fake.socket.accept()[0], ("", 0))
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        yield Docker(f"unix://{path}")
        fake.shutdown()


def test_closed_event_stream_ends_the_iteration(engine):
    assert list(engine.events({"event": ["start"]})) == [{}, {"Action": "start"}]


def test_engines_refusal_has_its_status(engine):
    with pytest.raises(DockerError) as error:
        engine.call("GET", "/broken")
    assert error.value.status == 500


def test_missing_engine_is_one_kind_of_error(tmp_path):
    with pytest.raises(DockerError):
        list(Docker(f"unix://{tmp_path}/none").events({}))


def ends_at_shutdown(ending: str) -> bool:
    """Tell whether a process with two threads ends when systemd shuts a server down."""
    program = f"""
import os, queue, signal, threading, time
{ending}
def other():
    while True:
        time.sleep(0.05)
threading.Thread(target=other, daemon=True).start()
print("here", flush=True)
queue.SimpleQueue().get(timeout=30)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=SRC, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(0.02)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            return False
        return True


def test_ends_when_the_server_shuts_down() -> None:
    ending = "from dockergen.ending import end_when_told; end_when_told()"
    assert all(ends_at_shutdown(ending) for _ in range(20))
    # The negative control: a handler, which about every second time waits for its thread.
    handler = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))"
    assert not all(ends_at_shutdown(handler) for _ in range(40))
