"""Apps with other servers than uWSGI: WebSockets, streams and limits of time."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import apps
import pytest
from conftest import Site, eventually
from sockets import WebSocket


@pytest.mark.parametrize("app", ["chat", "quart"])
def test_the_app_sees_the_client_and_its_own_address(site: Site, app: str) -> None:
    seen = json.loads(apps.ask(site, app, headers={"X-Mark": "x" * 30000}).body)
    assert seen["url"] == f"https://{app}.localhost:{site.https_port}/"
    assert seen["address"] not in (None, "", "127.0.0.1")
    assert seen["mark"] == 30000


def test_socket_io_works_with_both_transports(site: Site) -> None:
    there = site.named("chat.localhost")
    with WebSocket(there, "/socket.io/?EIO=4&transport=websocket") as client:
        assert client.status == 101
        assert client.receive().startswith("0{")
        client.send("40")
        assert client.receive().startswith("40{")
        client.send('42["say","hello"]')
        assert client.receive() == '42["said","hello"]'
    path = "/socket.io/?EIO=4&transport=polling"
    opened = there.request(path)
    sid = json.loads(opened.body[1:])["sid"]
    for message in ["40", *['42["say","hi"]'] * 5]:
        assert there.request(f"{path}&sid={sid}", "POST", message).status == 200
    said = there.request(f"{path}&sid={sid}").body
    assert said.count('["said","hi"]') >= 1


def test_an_asgi_app_has_web_sockets(site: Site) -> None:
    with WebSocket(site.named("quart.localhost"), "/echo") as client:
        client.send("hello")
        assert client.receive() == "hello"


def _moments(site: Site, path: str) -> list[float]:
    """Note when each part of a stream arrives."""
    connection = site.connect()
    connection.request("GET", path, headers={"Host": f"{site.domain}:{site.https_port}"})
    answer = connection.getresponse()
    found = []
    while answer.read1(65536):
        found.append(time.monotonic())
    return found


@pytest.mark.parametrize(
    ("app", "path"),
    [("chat", "/events"), ("chat", "/events?type=text/plain"), ("quart", "/events")],
)
def test_streams_arrive_as_they_are_sent(site: Site, app: str, path: str) -> None:
    moments = _moments(site.named(f"{app}.localhost"), path)
    assert moments[-1] - moments[0] > 1.5


def test_a_request_that_takes_too_long_gets_a_page_and_frees_its_thread(site: Site) -> None:
    there = site.named("chat.localhost")
    with ThreadPoolExecutor(2) as visitors:
        late = visitors.submit(there.request, "/slow/60")
        assert there.request("/slow/3").status == 200
        answer = late.result()
    assert answer.status == 504
    assert "took too long" in answer.body
    assert "starting" not in answer.body
    started = apps.identities(site)[apps.web(site, "chat")]

    def freed() -> None:
        log = site.on_server("sh", "-c", f"docker logs {apps.web(site, 'chat')} 2>&1")
        assert "HARAKIRI: GET /slow/60" in log
        assert there.request().status == 200

    eventually(freed, seconds=30)
    # The container itself was not restarted.
    assert apps.identities(site)[apps.web(site, "chat")] == started


def test_an_app_whose_threads_are_all_busy_is_healthy(site: Site) -> None:
    web = apps.web(site, "quart")
    assert "200" in site.on_server("docker", "exec", web, "healthcheck")
    there, chat = site.named("chat.localhost"), apps.web(site, "chat")
    with ThreadPoolExecutor(30) as visitors:
        busy = [visitors.submit(there.request, "/slow/60") for _ in range(30)]
        time.sleep(1)
        said = site.on_server("sh", "-c", f"docker exec {chat} healthcheck 2>&1 || true")
        assert {request.result().status for request in busy} == {504}
    assert "busy" in said

    def answers() -> None:
        assert there.request().status == 200

    # The tests that follow need it.
    eventually(answers, seconds=30)


def test_a_worker_is_a_shell_line(site: Site) -> None:
    worker = next(n for n in site.containers() if n.startswith("chat-") and "worker-writer" in n)
    # The worker of an older release may have written last.
    site.on_server("docker", "restart", worker)
    said = apps.ask(site, "chat", "/worker").body
    assert said.startswith("runs in jobs")
    assert said.endswith("before: stopped gracefully")
