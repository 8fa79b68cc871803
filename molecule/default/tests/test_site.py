"""The deployed site as a visitor sees it."""

import http.client
import json
import os
import re
import socket
import ssl
import urllib.parse
import uuid
from pathlib import Path

import pytest
from conftest import Site, eventually


def test_certificate_chain_leads_to_the_authority(site: Site, tmp_path: Path) -> None:
    certificate = site.connect().sock.getpeercert()
    assert ("DNS", site.domain) in certificate["subjectAltName"]
    # Negative control: a client that does not trust the test CA refuses the certificate.
    with pytest.raises(ssl.SSLCertVerificationError):
        site.connect(ca=Path("/etc/ssl/certs/ca-certificates.crt"))


def test_key_is_elliptic_and_old_tls_is_refused(site: Site) -> None:
    assert site.connect().sock.version() == "TLSv1.3"
    keys = site.on_server(
        "sh", "-c", "cat $(docker volume inspect -f {{.Mountpoint}} edge_certs)/*/key.pem"
    )
    assert "BEGIN EC PRIVATE KEY" in keys
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA")
    raw = socket.create_connection(("127.0.0.1", site.https_port))
    with pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname=site.domain)


def test_http2_is_offered(site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", site.https_port))
    assert context.wrap_socket(raw, server_hostname=site.domain).selected_alpn_protocol() == "h2"


def test_page_lists_projects_from_the_database(site: Site) -> None:
    titles = site.on_server(
        "docker", "exec", "my_flask_webpage-db-db-1",
        "psql", "-U", "postgres", "-d", "my_flask_webpage", "-Atc", "SELECT title FROM project",
    ).splitlines()  # fmt: skip
    page = site.request("/projects/")
    assert page.status == 200
    assert titles
    assert [title for title in titles if title not in page.body] == []


def test_row_written_by_the_form_is_kept(site: Site) -> None:
    """Rows from the last run, before the reboot, are still there; then write another one."""
    state = Path(os.environ["SITE_STATE"])
    earlier = json.loads(state.read_text()) if state.exists() else []
    page = site.request("/messages")
    assert [text for text in earlier if text not in page.body] == []

    text = f"Hello from {uuid.uuid4()}"
    assert text not in page.body
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.body)[1]
    fields = {"csrf_token": token, "name": "Ada", "body": text}
    answer = site.request(
        "/messages",
        "POST",
        urllib.parse.urlencode(fields),
        {
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": page.headers["set-cookie"].split(";")[0],
            "Referer": f"https://{site.domain}:{site.https_port}/messages",
        },
    )
    assert answer.status == 303, answer.body
    assert text in site.request("/messages").body
    state.write_text(json.dumps([*earlier, text]))


def test_plain_http_redirects_to_a_port_that_listens(site: Site) -> None:
    answer = site.request_plain("/messages?a=b")
    assert answer.status == 301
    assert answer.headers["location"] == f"https://{site.domain}:{site.https_port}/messages?a=b"


def test_browsers_are_told_to_be_strict(site: Site) -> None:
    """Pages, static files and pictures meet Mozilla's HTTP Observatory's criteria for an A+."""
    page = site.request("/projects/tidewater")
    static = re.search(r'href="(/static/[^"]+\.css[^"]*)"', page.body)[1]
    picture = re.search(r'src="(/media/[^"]+)"', page.body)[1]
    for path in ("/", "/messages", static, picture):
        headers = site.request(path).headers
        age = re.match(r"max-age=(\d+)", headers["strict-transport-security"])[1]
        assert int(age) >= 31_536_000, path
    for path in ("/", "/messages", picture):
        headers = site.request(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin"
    cookie = site.request("/messages").headers["set-cookie"]
    assert cookie.startswith("__Host-session=")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax"):
        assert attribute in cookie


def test_pages_and_pictures_are_asked_for_again_cheaply(site: Site) -> None:
    page = site.request("/projects/tidewater")
    assert page.headers["cache-control"].startswith("public")
    picture = re.search(r'src="(/media/[^"]+)"', page.body)[1]
    for path in ("/projects/tidewater", picture):
        # nginx makes the ETag of a compressed response a weak one.
        tag = site.request(path, headers={"Accept-Encoding": "gzip"}).headers["etag"]
        assert site.request(path, headers={"If-None-Match": tag}).status == 304
        # Negative control.
        assert site.request(path, headers={"If-None-Match": '"other"'}).status == 200
    assert "immutable" in site.request(picture).headers["cache-control"]


def test_access_log_is_json_with_the_id_in_the_response(site: Site) -> None:
    mark = uuid.uuid4().hex
    request_id = site.request(f"/?mark={mark}").headers["x-request-id"]
    web = site.container("-web-")

    def line() -> str:
        lines = site.on_server("sh", "-c", f"docker logs {web} 2>&1 | grep {mark}").splitlines()
        assert len(lines) == 1
        return lines[0]

    found = json.loads(eventually(line, seconds=10))
    assert found["request_id"] == request_id
    assert (found["method"], found["path"], found["status"]) == ("GET", f"/?mark={mark}", 200)
    assert found["remote_addr"]


def test_unknown_hosts_get_no_answer(site: Site) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        site.request_plain(host="unknown.example")
    # The TLS handshake has the site's name, the request has another host.
    with pytest.raises(http.client.RemoteDisconnected):
        site.request(host="unknown.example")
    with pytest.raises(ssl.SSLError):
        site.connect(host="unknown.example")


def test_static_files_never_reach_uwsgi(site: Site) -> None:
    page = site.request()
    path = re.search(r'href="(/static/[^"]+\.css[^"]*)"', page.body)[1]
    mark = uuid.uuid4().hex
    answer = site.request(f"{path}&mark={mark}", headers={"Accept-Encoding": "gzip"})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.headers["content-encoding"] == "gzip"
    assert "max-age=31536000" in answer.headers["cache-control"]
    # Negative control: the request for a page does appear in the log.
    control = uuid.uuid4().hex
    site.request(f"/?mark={control}")
    web = site.container("-web-")

    def log() -> str:
        return site.on_server("sh", "-c", f"docker logs {web} 2>&1")

    def logged() -> None:
        assert control in log()

    eventually(logged, seconds=10)
    assert mark not in log()


def test_client_cannot_spoof_its_address(site: Site) -> None:
    mark = uuid.uuid4().hex
    site.request(
        f"/?mark={mark}", headers={"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil.example"}
    )
    web = site.container("-web-")

    def line() -> str:
        lines = site.on_server("sh", "-c", f"docker logs {web} 2>&1 | grep {mark}").splitlines()
        assert lines
        return "\n".join(lines)

    assert "6.6.6.6" not in eventually(line, seconds=10)


def test_gateway_error_is_a_page_that_a_person_can_read(site: Site) -> None:
    routes = "/opt/flask-vps/edge/routes/my_flask_webpage"
    link = site.on_server("readlink", f"{routes}/current").strip()
    site.on_server("ln", "-sfn", "nobody", f"{routes}/current")
    try:
        answer = site.request()
    finally:
        site.on_server("ln", "-sfn", link, f"{routes}/current")
    assert answer.status == 502
    assert "The site does not answer" in answer.body
