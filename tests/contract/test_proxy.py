"""The contract of nginx and docker-gen with the containers behind them."""

import socket
import ssl

import pytest
from lab import SANDBOX, SOCKET, TMP, Edge, eventually, sha1

SPOOFED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Ssl": "on",
    "X-Real-IP": "6.6.6.6",
    "Proxy": "http://evil.test",
}
PLAIN = {"HTTPS_METHOD": "nohttps"}


@pytest.fixture(scope="module")
def edge(lab):
    """A proxy that trusts no downstream proxy, with files that exist before it starts."""
    files = {
        "vhost.d/with-file.test": "add_header X-Host-File yes always;\n",
        "vhost.d/with-location.test_location": "add_header X-Location-File yes;\n",
        "vhost.d/overridden.test_location_override": "location / { return 200 override; }\n",
        "htpasswd/locked.test": "user:{PLAIN}secret\n",
        "html/.well-known/acme-challenge/token": "token.thumbprint",
    }
    made = Edge(lab, {"ENABLE_HTTP_ON_MISSING_CERT": "false"}, files=files)
    made.certificate("secure.test", "secure.test", "www.secure.test")
    return made


@pytest.fixture(scope="module")
def secure(edge):
    """An application with a certificate, and a client that trusts it."""
    edge.backend("secure", {"VIRTUAL_HOST": "secure.test"})
    tls = edge.tls("secure.test")
    edge.wait("secure.test", tls=tls)
    return tls


def refused(edge, host, tls):
    """Try a TLS handshake, and return the error with which the server refuses it."""
    with pytest.raises(ssl.SSLError) as error:
        edge.fetch(host, tls=tls)
    return str(error.value).lower().replace("_", " ")


def test_each_host_reaches_its_own_container(edge):
    for name in ("one", "two"):
        edge.backend(name, {"VIRTUAL_HOST": f"{name}.test", **PLAIN})
    assert edge.wait("one.test").json["name"] == "one"
    assert edge.wait("two.test").json["name"] == "two"
    assert edge.fetch("ONE.test").json["name"] == "one"


def test_list_of_hosts_may_have_spaces_and_a_trailing_comma(edge):
    edge.backend("list", {"VIRTUAL_HOST": " list-a.test , list-b.test,, ", **PLAIN})
    assert edge.wait("list-a.test").json["name"] == "list"
    assert edge.wait("list-b.test").json["name"] == "list"


def test_wildcard_and_regular_expression_hosts(edge):
    edge.backend("wild", {"VIRTUAL_HOST": "*.wild.test", **PLAIN})
    edge.backend("regexp", {"VIRTUAL_HOST": r"~^r[0-9]+\.test$", **PLAIN})
    assert edge.wait("any.wild.test").json["name"] == "wild"
    assert edge.wait("r42.test").json["name"] == "regexp"
    assert edge.fetch("rx.test").status == 503


def test_longest_host_name_is_served(edge):
    host = ".".join(["a" * 60] * 4) + ".test"
    edge.backend("long", {"VIRTUAL_HOST": host, **PLAIN})
    assert edge.wait(host).json["name"] == "long"


def test_containers_of_one_host_share_its_requests(edge):
    for name in ("left", "right"):
        edge.backend(name, {"VIRTUAL_HOST": "shared.test", **PLAIN})
    edge.wait("shared.test")
    eventually(
        lambda: {edge.fetch("shared.test").json["name"] for _ in range(4)} == {"left", "right"}
    )


def test_only_exposed_port_is_the_default_port(edge):
    edge.backend("exposed", {"VIRTUAL_HOST": "exposed.test", **PLAIN}, port=4242, expose=[4242])
    assert edge.wait("exposed.test").json["name"] == "exposed"


def test_virtual_port_chooses_among_exposed_ports(edge):
    environment = {"VIRTUAL_HOST": "port.test", "VIRTUAL_PORT": "4243", **PLAIN}
    edge.backend("port", environment, port=4243, expose=[4242, 4243])
    assert edge.wait("port.test").json["name"] == "port"


def test_port_80_is_the_default_without_exposed_ports(edge):
    edge.backend("eighty", {"VIRTUAL_HOST": "eighty.test", **PLAIN})
    assert edge.wait("eighty.test").json["name"] == "eighty"


def test_path_goes_to_its_own_container_and_dest_replaces_it(edge):
    environment = {"VIRTUAL_HOST": "path.test", "VIRTUAL_PATH": "/api/", "VIRTUAL_DEST": "/v1/"}
    edge.backend("path", {**environment, **PLAIN})
    assert edge.wait("path.test", "/api/item").json["path"] == "/v1/item"
    assert edge.fetch("path.test", "/other").status == 404


def test_uwsgi_protocol(edge):
    environment = {"VIRTUAL_HOST": "uwsgi.test", "VIRTUAL_PROTO": "uwsgi", "VIRTUAL_PORT": "3031"}
    edge.backend("uwsgi", {**environment, **PLAIN}, port=3031, proto="uwsgi")
    variables = edge.wait("uwsgi.test", "/a%20b?c=d").json["variables"]
    assert variables["PATH_INFO"] == "/a b"
    assert variables["QUERY_STRING"] == "c=d"
    assert variables["REQUEST_URI"] == "/a%20b?c=d"
    assert variables["HTTP_HOST"] == "uwsgi.test"


def test_client_cannot_set_forwarding_headers_over_http(edge):
    edge.backend("spoof", {"VIRTUAL_HOST": "spoof.test", **PLAIN})
    edge.wait("spoof.test")
    headers = edge.fetch("spoof.test", headers=SPOOFED).json["headers"]
    assert "6.6.6.6" not in str(headers)
    assert "evil" not in str(headers)
    assert headers["x-forwarded-host"] == headers["host"] == "spoof.test"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-port"] == "80"
    assert headers["x-forwarded-ssl"] == "off"
    assert headers["x-forwarded-for"] == headers["x-real-ip"]
    assert headers["x-original-uri"] == "/"
    assert "proxy" not in headers


def test_client_cannot_set_forwarding_headers_over_uwsgi(edge):
    environment = {"VIRTUAL_HOST": "spoof-u.test", "VIRTUAL_PROTO": "uwsgi", **PLAIN}
    edge.backend("spoof-u", environment, proto="uwsgi")
    edge.wait("spoof-u.test")
    variables = edge.fetch("spoof-u.test", headers=SPOOFED).json["variables"]
    assert "6.6.6.6" not in str(variables)
    assert "evil" not in str(variables)
    assert variables["HTTP_X_FORWARDED_PROTO"] == "http"
    assert variables["HTTP_X_FORWARDED_HOST"] == "spoof-u.test"
    assert variables["HTTP_X_FORWARDED_FOR"] == variables["REMOTE_ADDR"]
    assert "HTTP_PROXY" not in variables


def test_proxy_in_front_may_set_forwarding_headers_when_trusted(lab):
    edge = Edge(lab, {"TRUST_DOWNSTREAM_PROXY": "true", **PLAIN})
    edge.backend("http", {"VIRTUAL_HOST": "http.test"})
    edge.backend("uwsgi", {"VIRTUAL_HOST": "uwsgi.test", "VIRTUAL_PROTO": "uwsgi"}, proto="uwsgi")
    edge.wait("http.test")
    headers = edge.fetch("http.test", headers=SPOOFED).json["headers"]
    assert headers["x-forwarded-for"].startswith("6.6.6.6, ")
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-host"] == "evil.test"
    assert "proxy" not in headers, "the header Proxy is removed (httpoxy)"
    edge.wait("uwsgi.test")
    variables = edge.fetch("uwsgi.test", headers=SPOOFED).json["variables"]
    assert variables["HTTP_X_FORWARDED_FOR"].startswith("6.6.6.6, ")
    assert variables["HTTP_X_FORWARDED_PROTO"] == "https"
    assert "HTTP_PROXY" not in variables


def test_redirect_is_the_default_with_a_certificate(edge, secure):
    answer = edge.fetch("secure.test", "/a?b=c")
    assert answer.status == 301
    assert answer.headers["Location"] == "https://secure.test/a?b=c"
    assert edge.fetch("secure.test", tls=secure).json["headers"]["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(
    ("method", "http", "https"),
    [("noredirect", 200, 200), ("nohttp", 503, 200), ("nohttps", 200, None)],
)
def test_https_method(edge, secure, method, http, https):
    host = f"{method}.test"
    environment = {"VIRTUAL_HOST": host, "HTTPS_METHOD": method, "CERT_NAME": "secure.test"}
    edge.backend(method, environment)
    if https:
        tls = edge.tls("secure.test")
        tls.check_hostname = False
        edge.wait(host, tls=tls)
    edge.wait(host, status=http)
    if not https:
        assert "unrecognized name" in refused(edge, host, secure)


def test_acme_challenge_is_served_over_http_beside_the_redirect(edge, secure):
    path = "/.well-known/acme-challenge/token"
    assert edge.fetch("secure.test", path).text == "token.thumbprint"
    assert edge.fetch("secure.test", path + "-unknown").status == 404
    assert edge.fetch("secure.test", "/.well-known/other").status == 301


def test_without_certificate_http_serves_the_challenge_and_no_page(edge, secure):
    edge.backend("waiting", {"VIRTUAL_HOST": "waiting.test"})
    edge.wait("waiting.test", status=301)
    assert edge.fetch("waiting.test", "/.well-known/acme-challenge/token").status == 200
    assert "unrecognized name" in refused(edge, "waiting.test", secure)


def test_without_certificate_http_serves_the_page_if_allowed(edge):
    environment = {"VIRTUAL_HOST": "allowed.test", "ENABLE_HTTP_ON_MISSING_CERT": "true"}
    edge.backend("allowed", environment)
    assert edge.wait("allowed.test").json["name"] == "allowed"
    assert edge.fetch("allowed.test", "/.well-known/acme-challenge/token").status == 200


def test_new_certificate_is_used_after_sighup(edge):
    edge.backend("fresh", {"VIRTUAL_HOST": "fresh.test"})
    edge.wait("fresh.test", status=301)
    edge.certificate("fresh.test")
    edge.docker_gen.kill(signal="HUP")
    assert edge.wait("fresh.test", tls=edge.tls("fresh.test")).json["name"] == "fresh"


def test_parent_domain_certificate_is_used(edge):
    edge.certificate("parent.test", "parent.test", "*.parent.test")
    edge.backend("child", {"VIRTUAL_HOST": "child.parent.test"})
    assert edge.wait("child.parent.test", tls=edge.tls("parent.test")).json["name"] == "child"


def test_hsts_is_sent_over_https_and_can_be_off(edge, secure):
    answer = edge.fetch("secure.test", tls=secure)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Strict-Transport-Security" not in edge.fetch("secure.test").headers
    edge.backend(
        "no-hsts", {"VIRTUAL_HOST": "www.secure.test", "CERT_NAME": "secure.test", "HSTS": "off"}
    )
    answer = edge.wait("www.secure.test", tls=secure)
    assert "Strict-Transport-Security" not in answer.headers


def test_tls_1_1_is_refused_and_1_2_is_not(edge, secure):
    old = edge.tls("secure.test")
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert "alert protocol version" in refused(edge, "secure.test", old), "the server refuses it"
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert edge.fetch("secure.test", tls=old).status == 200


def test_modern_policy_refuses_tls_1_2(lab):
    edge = Edge(lab, {"SSL_POLICY": "Mozilla-Modern"})
    edge.certificate("modern.test")
    edge.backend("modern", {"VIRTUAL_HOST": "modern.test"})
    tls = edge.tls("modern.test")
    edge.wait("modern.test", tls=tls)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "alert" in refused(edge, "modern.test", tls)


@pytest.mark.parametrize(
    ("offer", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")]
)
def test_http_2_is_negotiated(edge, secure, offer, chosen):
    tls = edge.tls("secure.test")
    tls.set_alpn_protocols(offer)
    with (
        socket.create_connection((edge.address, 443), timeout=5) as raw,
        tls.wrap_socket(raw, server_hostname="secure.test") as connection,
    ):
        assert connection.selected_alpn_protocol() == chosen


def test_unknown_host_gets_503_and_no_handshake(edge, secure):
    assert edge.fetch("unknown.test").status == 503
    assert "unrecognized name" in refused(edge, "unknown.test", secure)


def test_default_server_of_another_file_answers_unknown_hosts(lab):
    own = "server { listen 80 default_server; server_name _; return 418 own; }\n"
    edge = Edge(lab, PLAIN, files={"conf.d/00-own.conf": own})
    edge.backend("known", {"VIRTUAL_HOST": "known.test"})
    assert edge.wait("known.test").json["name"] == "known"
    assert edge.wait("unknown.test", status=418).text == "own"
    assert edge.shell("cat /etc/nginx/conf.d/00-own.conf") == own


def test_default_server_may_close_the_connection(lab):
    own = "server { listen 80 default_server; server_name _; return 444; }\n"
    edge = Edge(lab, PLAIN, files={"conf.d/00-own.conf": own})
    edge.backend("known", {"VIRTUAL_HOST": "known.test"})
    edge.wait("known.test")
    with pytest.raises(ConnectionError):
        edge.fetch("unknown.test")


def test_default_host_answers_unknown_hosts(lab):
    edge = Edge(lab, {"DEFAULT_HOST": "main.test", **PLAIN})
    edge.backend("main", {"VIRTUAL_HOST": "main.test"})
    assert edge.wait("unknown.test").json["name"] == "main"


def test_files_of_a_host_are_included(edge):
    for name in ("with-file", "with-location", "overridden"):
        edge.backend(name, {"VIRTUAL_HOST": f"{name}.test", **PLAIN})
    assert edge.wait("with-file.test").headers["X-Host-File"] == "yes"
    assert edge.wait("with-location.test").headers["X-Location-File"] == "yes"
    assert "X-Location-File" not in edge.fetch("with-file.test").headers
    assert edge.wait("overridden.test").text == "override"


def test_a_regular_expression_has_files_and_a_certificate_of_given_names(lab):
    host = "~^[^.]+[.]wild[.]test$"
    files = {
        f"vhost.d/{sha1(host)}": "add_header X-Host-File yes always;\n",
        f"vhost.d/{sha1(host)}_location_override": "location / { return 200 $host; }\n",
        "vhost.d/one.wild.test": "add_header X-Host-File no always;\n",
    }
    edge = Edge(lab, files=files)
    edge.certificate("shared", "*.wild.test")
    edge.backend("regexp", {"VIRTUAL_HOST": host, "CERT_NAME": "shared"})
    answer = edge.wait("one.wild.test", tls=edge.tls("shared"))
    assert (answer.text, answer.headers["X-Host-File"]) == ("one.wild.test", "yes")


def test_default_files_are_for_hosts_without_their_own(lab):
    files = {
        "vhost.d/default": "location = /file { return 200 default; }\n",
        "vhost.d/own.test": "location = /file { return 200 own; }\n",
        "vhost.d/default_location": "add_header X-Location default;\n",
        f"vhost.d/own.test_{sha1('/')}_location": "add_header X-Location own;\n",
    }
    edge = Edge(lab, PLAIN, files=files)
    edge.backend("own", {"VIRTUAL_HOST": "own.test"})
    edge.backend("other", {"VIRTUAL_HOST": "other.test"})
    assert edge.wait("own.test").headers["X-Location"] == "own"
    assert edge.wait("other.test").headers["X-Location"] == "default"
    assert edge.fetch("own.test", "/file").text == "own"
    assert edge.fetch("other.test", "/file").text == "default"


def test_variables_for_own_files_are_defined(lab):
    names = ("for", "proto", "host", "port", "ssl")
    text = "".join(f"add_header X-{n} $proxy_x_forwarded_{n} always;\n" for n in names)
    text += (
        "access_log /var/log/nginx/access.log vhost;\nadd_header X-c $proxy_connection always;\n"
    )
    edge = Edge(lab, PLAIN, files={"vhost.d/own.test_location": text})
    edge.backend("own", {"VIRTUAL_HOST": "own.test"})
    headers = edge.wait("own.test").headers
    assert (headers["X-proto"], headers["X-host"], headers["X-port"]) == ("http", "own.test", "80")


def test_password_file_locks_a_host(edge):
    edge.backend("locked", {"VIRTUAL_HOST": "locked.test", **PLAIN})
    edge.wait("locked.test", status=401)
    assert (
        edge.fetch("locked.test", headers={"Authorization": "Basic dXNlcjpzZWNyZXQ="}).status == 200
    )


def test_internal_network_access_still_serves_private_addresses(edge):
    edge.backend(
        "internal", {"VIRTUAL_HOST": "internal.test", "NETWORK_ACCESS": "internal", **PLAIN}
    )
    assert edge.wait("internal.test").json["name"] == "internal"


INJECTION = "x; } location /owned { return 200 owned; } #"


@pytest.mark.parametrize(
    "environment",
    [
        {"VIRTUAL_HOST": "bad.test; } server { listen 81; return 200 owned"},
        {"VIRTUAL_HOST": "bad.test\nowned.test"},
        {"VIRTUAL_HOST": "~^bad{1}.test$; return 200 owned"},
        {"VIRTUAL_HOST": "bad.test", "VIRTUAL_PORT": f"80{INJECTION}"},
        {"VIRTUAL_HOST": "bad.test", "VIRTUAL_PATH": f"/{INJECTION}"},
        {"VIRTUAL_HOST": "bad.test", "VIRTUAL_DEST": f"/{INJECTION}"},
        {"VIRTUAL_HOST": "bad.test", "VIRTUAL_PROTO": f"http://{INJECTION}"},
        {"VIRTUAL_HOST": "bad.test", "CERT_NAME": INJECTION},
        {"VIRTUAL_HOST": "bad.test", "HSTS": f'max-age=1"; {INJECTION}'},
        {"VIRTUAL_HOST": "bad.test", "SERVER_TOKENS": f"off; {INJECTION}"},
    ],
    ids=lambda environment: " ".join(environment),
)
def test_container_cannot_inject_directives(edge, environment):
    bad = edge.backend("bad", {**environment, **PLAIN})
    variable = list(environment)[-1]
    log = eventually(
        lambda: [
            line
            for line in edge.docker_gen.logs().decode().splitlines()
            if bad.name in line and variable in line
        ],
        what="a line that names container and variable",
    )
    assert "left out" in log[0]
    edge.backend("good", {"VIRTUAL_HOST": "good.test", **PLAIN})
    assert (
        edge.wait("good.test").json["name"] in ("good", "bad")
        and "owned" not in edge.configuration()
    )
    assert edge.fetch("bad.test").status == 503
    edge.lab.remove(bad)


def test_container_on_another_network_is_unreachable(lab, edge):
    edge.backend("far", {"VIRTUAL_HOST": "far.test", **PLAIN}, network=lab.network("far"))
    edge.wait("far.test", status=502)
    assert "server 127.0.0.1 down;" in edge.configuration()


def test_container_is_served_once_its_network_is_connected(lab, edge):
    container = edge.backend(
        "late", {"VIRTUAL_HOST": "late.test", **PLAIN}, network=lab.network("late")
    )
    edge.wait("late.test", status=502)
    edge.network.connect(container)
    assert edge.wait("late.test").json["name"] == "late"


def test_stopped_container_leaves_the_configuration(edge):
    container = edge.backend("gone", {"VIRTUAL_HOST": "gone.test", **PLAIN})
    edge.wait("gone.test")
    container.stop(timeout=1)
    edge.wait("gone.test", status=503)


def test_unknown_ssl_policy_is_refused_with_the_supported_ones(lab):
    container = lab.run(
        "docker-gen",
        "policy",
        environment={"SSL_POLICY": "Mozilla-Odd"},
        binds=[f"{SOCKET}:/tmp/docker.sock:ro"],
    )
    assert container.wait(timeout=20)["StatusCode"] == 1
    assert "Mozilla-Intermediate" in container.logs().decode()


def test_nginx_runs_with_nothing_but_its_capabilities(edge):
    host = edge.nginx.attrs["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
    status, _ = edge.nginx.exec_run(["sh", "-c", "echo x > /etc/nginx/nginx.conf"])
    assert status != 0
    status, output = edge.nginx.exec_run(
        ["sh", "-c", 'test "nginx/$NGINX_VERSION" = "$(nginx -v 2>&1 | sed "s/.*: //")"']
    )
    assert status == 0, output.decode()


def test_nginx_starts_before_there_is_any_configuration(lab):
    container = lab.run("nginx", "bare", tmpfs={"/etc/nginx/conf.d": ""})
    eventually(lambda: b"start worker process" in container.logs())
    container.stop(timeout=10)
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0


class TestAllInOne:
    """The image that has nginx and docker-gen in one container."""

    @pytest.fixture(scope="class")
    def proxy(self, lab):
        tag = f"{lab.label}.one"
        network = lab.network("one")
        container = lab.run(
            "nginx-proxy",
            "one",
            network=network,
            environment={"DOCKER_CONTAINER_FILTERS": f"label={tag}", **PLAIN},
            binds=[f"{SOCKET}:/tmp/docker.sock:ro"],
            tmpfs=dict.fromkeys([TMP, "/run", "/var/cache/nginx", "/etc/nginx/conf.d"], ""),
            cap_add=["CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"],
            **SANDBOX,
        )
        lab.backend("one", {"VIRTUAL_HOST": "one.test"}, network=network, labels={tag: ""})
        container.reload()
        edge = Edge.__new__(Edge)  # used only for requests: it has no folders
        edge.nginx = container
        edge.address = container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
        return edge

    def test_serves_containers(self, proxy):
        assert proxy.wait("one.test").json["name"] == "one"

    def test_reloads_as_the_upstream_companion_asks_it_to(self, proxy):
        command = (
            "/app/docker-entrypoint.sh /usr/local/bin/docker-gen /app/nginx.tmpl"
            " /etc/nginx/conf.d/default.conf; /usr/sbin/nginx -s reload"
        )
        status, output = proxy.nginx.exec_run(["sh", "-c", command])
        assert status == 0, output.decode()
        assert proxy.wait("one.test").status == 200

    def test_docker_gen_comes_back_and_nginx_stays(self, proxy):
        before = proxy.nginx.logs().count(b"Watching docker events")
        proxy.nginx.exec_run(
            ["sh", "-c", "kill -9 $(grep -lzx -- -watch /proc/[0-9]*/cmdline | cut -d/ -f3)"]
        )
        eventually(lambda: proxy.nginx.logs().count(b"Watching docker events") > before)
        assert proxy.fetch("one.test").status == 200

    def test_container_ends_with_nginx(self, proxy):
        proxy.nginx.exec_run(["sh", "-c", "kill -QUIT $(cat /run/nginx.pid)"])
        proxy.nginx.wait(timeout=20)
