"""Visitors notice no deploy, no rollback and no broken release."""

import contextlib
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Answer, Site, eventually
from sockets import WebSocket

from bench.campaign import FAULTS, Campaign, Event
from bench.naive import Naive

RATE = float(os.environ.get("DEPLOY_RATE", "30"))
QUIET_SECONDS = float(os.environ.get("DEPLOY_QUIET", "20"))
GOOD, ROLLBACKS, BROKEN = (
    int(os.environ.get(f"DEPLOY_{name}", number))
    for name, number in (("GOOD", "5"), ("ROLLBACKS", "2"), ("BROKEN", "4"))
)
OUTPUT = Path(os.environ["SITE_DIR"])
RESULTS = Path(__file__).parents[3] / ".cache/bench"


def _succeeds(event: Event) -> str:
    """Return the output of a run; if it failed, fail with the end of the output."""
    assert event.succeeded, f"{event.name} failed: {event.output[-1500:]}"
    return event.output


def _order() -> list[str]:
    """Mix the kinds of runs evenly, with a good deploy as the first and the last one."""
    share = {"good": GOOD - 2, "rollback": ROLLBACKS, "broken": BROKEN}
    turns = [((n + 1) / (count + 1), kind) for kind, count in share.items() for n in range(count)]
    return ["good", *(kind for _, kind in sorted(turns)), "good"]


@pytest.fixture(scope="module")
def campaign(site: Site) -> Campaign:
    """All runs under load; the tests check the results."""
    campaign = Campaign(
        url=f"https://{site.domain}:{site.https_port}",
        ca=site.ca,
        source=OUTPUT / "ledger",
        inventories=os.environ["SITE_INVENTORIES"].split(","),
        work=OUTPUT / "load",
        on_server=site.on_server,
        nice="DEPLOY_NICE" in os.environ,
    )
    faults = 0
    with campaign.load(RATE, slow_seconds=20):
        time.sleep(QUIET_SECONDS)
        for kind in _order():
            if kind == "good":
                campaign.deploy()
            elif kind == "rollback":
                campaign.play("rollback.yml")
            else:
                broken = campaign.deploy(FAULTS[faults % len(FAULTS)])
                if faults == 0:
                    never_well = re.search(r"Release (\w+) of ledger failed", broken.output)[1]
                    refused = campaign.play("rollback.yml", "-e", f"release={never_well}")
                    refused.name = "refused rollback"
                faults += 1
        time.sleep(5)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "deploys.txt").write_text(campaign.table() + "\n")
    if "DEPLOY_PLOT" in os.environ:
        campaign.plot(RESULTS / "deploys.png")
    return campaign


def test_no_request_fails(campaign: Campaign) -> None:
    assert len(campaign.requests) > RATE * 60
    assert campaign.failures() == {}


def test_requests_in_flight_finish(campaign: Campaign) -> None:
    slow = [r for r in campaign.requests if r.kind.startswith("slow")]
    spanning = [
        r
        for r in slow
        for e in campaign.events
        if r.start < e.start < r.end or r.start < e.end < r.end
    ]
    assert spanning
    assert {r.outcome for r in spanning} == {"ok"}
    assert min(r.end - r.start for r in spanning) > 19


def test_each_acknowledged_row_is_there_once(campaign: Campaign) -> None:
    assert campaign.lost_and_doubled() == ([], [])
    assert len([r for r in campaign.requests if r.id]) > RATE * 10


def test_good_deploys_and_rollbacks_succeed(campaign: Campaign) -> None:
    good = [e for e in campaign.events if e.name in ("deploy", "rollback")]
    assert len(good) == GOOD + ROLLBACKS
    for event in good:
        _succeeds(event)


def test_broken_releases_fail_and_say_why(campaign: Campaign, site: Site) -> None:
    words = {
        "exit": "This release ends before it has begun.",
        "hang": "did not answer within",
        "error": "500",
        "init": "The migration of this release fails.",
        "secret": "LEDGER_KEY_THAT_NOBODY_SET",
        "build": "flask==0.0.999",
    }
    broken = [e for e in campaign.events if e.name.startswith("broken")]
    assert len(broken) == BROKEN
    for event in broken:
        assert not event.succeeded, event.name
        assert words[event.name.rpartition(" ")[2]] in event.output, event.output[-3000:]
    # No container of a broken release is left running.
    releases = site.on_server("ls", "/opt/flask-vps/apps/ledger/releases").split()
    running = [name for name in site.containers() if name.startswith("ledger-")]
    live = site.on_server("readlink", "/opt/flask-vps/apps/ledger/current").strip()[-12:]
    assert live in releases
    others = [name for name in running if name.split("-")[1] in set(releases) - {live}]
    # A job of an earlier release may still be running.
    assert [name for name in others if "job" not in name] == []


def test_pages_of_earlier_releases_keep_their_files(campaign: Campaign, site: Site) -> None:
    live = eventually(lambda: site.request("/").body)
    earlier = campaign.number - 1
    names = site.on_server(
        "sh", "-c", "ls -d /opt/flask-vps/edge/static/ledger/*/release-*.txt"
    ).split()
    files = {name.rpartition("/")[2] for name in names}
    assert len(files) >= min(GOOD, 5), earlier
    for name in files:
        assert site.request(f"/static/{name}").status == 200, name
    # Negative control: a file of no release.
    assert site.request("/static/release-0.ffffffff.txt").status == 404
    assert "release" in live


def test_workers_and_jobs_run_once_and_to_their_end(campaign: Campaign, site: Site) -> None:
    begun = campaign.query("SELECT date_trunc('minute', at) FROM tick WHERE step = 'job begins'")
    assert len(begun) >= 2
    assert len(begun) == len(set(begun)), "a job ran twice in a minute"

    def finished() -> None:
        ends = campaign.query("SELECT count(*) FROM tick WHERE step = 'job ends'")
        starts = campaign.query(
            "SELECT count(*) FROM tick WHERE step = 'job begins' AND at < now() - interval '30 s'"
        )
        assert int(ends[0]) >= int(starts[0])

    eventually(finished, seconds=60)
    workers = dict(
        line.split("|")
        for line in campaign.query(
            "SELECT step, count(*) FROM tick WHERE step ~ 'worker' GROUP BY 1"
        )
    )
    # One worker is running, and all others have ended gracefully.
    assert int(workers["worker begins"]) == int(workers.get("worker ends", 0)) + 1


def test_plain_compose_fails_requests(campaign: Campaign, site: Site) -> None:
    """Negative control: the same load fails requests during `docker compose up -d --build`."""
    naive = Naive(campaign, site.on_server)
    requests = naive.redeploy(times=2, rate=20)
    failed = [r for r in requests if r.outcome != "ok"]
    with (RESULTS / "deploys.txt").open("a") as file:
        file.write(f"plain compose: {len(failed)} of {len(requests)} requests failed\n")
    assert failed


def test_only_one_run_at_a_time(campaign: Campaign) -> None:
    command = ["ansible-playbook", "playbooks/deploy.yml"]
    command += [f"--inventory={path}" for path in campaign.inventories]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as first:
        for line in first.stdout or ():
            if "images :" in line:
                break
        second = campaign.play("deploy.yml")
        status = campaign.play("status.yml")
        first.communicate()
    assert first.returncode == 0
    assert not second.succeeded
    assert "Another run changes the releases of this server" in second.output
    assert f"(process {first.pid})" in second.output
    assert f"(process {first.pid})" in status.output
    assert "live" in status.output


def test_nothing_changed_means_nothing_done(campaign: Campaign) -> None:
    assert "changed=0" in _succeeds(campaign.play("deploy.yml"))


def test_rollback_refuses_what_never_was_healthy(campaign: Campaign) -> None:
    refused = next(event for event in campaign.events if event.name == "refused rollback")
    assert not refused.succeeded
    assert "it never became healthy" in refused.output
    unknown = campaign.play("rollback.yml", "-e", "release=0123456789ab")
    assert "has no release 0123456789ab" in unknown.output


def test_rollback_to_a_release_that_still_finishes(campaign: Campaign, site: Site) -> None:
    left = site.on_server("readlink", "/opt/flask-vps/apps/ledger/current").strip()[-12:]
    slow: list[Future[Answer]] = []
    switched = threading.Event()

    def visit() -> None:
        # One after the other, so that some are open at the switch, however long the run takes.
        while not switched.is_set():
            slow.append(visitors.submit(site.request, "/slow?seconds=40"))
            switched.wait(10)

    with ThreadPoolExecutor(32) as visitors:
        try:
            visitors.submit(visit)
            _succeeds(campaign.play("rollback.yml"))
        finally:
            switched.set()
        # A rollback does not wait for slow requests. Negative control: some are still open.
        assert f"ledger-{left}-web-1" in site.containers()
        assert not all(request.done() for request in slow)
        _succeeds(campaign.play("rollback.yml", "-e", f"release={left}"))
        assert {request.result().status for request in slow} == {200}
    assert site.on_server("readlink", "/opt/flask-vps/apps/ledger/current").strip()[-12:] == left
    assert f"release {campaign.number}" in site.request("/").body


def test_maintenance_page_and_who_passes_it(campaign: Campaign, site: Site) -> None:
    _succeeds(campaign.play("maintenance.yml", "-e", "state=on"))
    answer = site.request("/")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "Down for a moment" in answer.body
    _succeeds(campaign.play("maintenance.yml", "-e", "state=on", "-e", "allow=0.0.0.0/0"))
    assert site.request("/").status == 200
    # A deploy keeps maintenance on.
    _succeeds(campaign.play("maintenance.yml", "-e", "state=on"))
    _succeeds(campaign.deploy())
    assert site.request("/").status == 503
    _succeeds(campaign.play("maintenance.yml", "-e", "state=off"))
    assert site.request("/").status == 200
    wrong = campaign.play("maintenance.yml", "-e", "state=on", "-e", "allow=nonsense")
    assert "allow=nonsense" in wrong.output


def test_unhealthy_container_is_restarted(campaign: Campaign, site: Site) -> None:
    web = next(n for n in site.containers() if n.startswith("ledger-") and n.endswith("web-1"))

    def started() -> str:
        # The container is missing from the list while it restarts.
        return site.containers().get(web, {"State": {"StartedAt": ""}})["State"]["StartedAt"]

    before = started()
    # Stop uWSGI's processes: they still exist, but do not respond.
    site.on_server("docker", "exec", web, "sh", "-c", "kill -STOP -1")

    def restarted() -> None:
        assert started() not in ("", before)

    eventually(restarted, seconds=150)
    eventually(lambda: site.request("/"), seconds=60)
    journal = site.on_server("journalctl", "-u", "flask-vps-watchdog", "--no-pager")
    assert "which is unhealthy" in journal


def _upload(site: Site, seconds: int) -> int:
    """Send a request whose body takes a while to arrive, and return the status of the answer."""
    body = f"id={uuid.uuid4()}"
    connection = site.connect()
    connection.putrequest("POST", "/entries", skip_host=True)
    connection.putheader("Host", f"{site.domain}:{site.https_port}")
    connection.putheader("Content-Type", "application/x-www-form-urlencoded")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    for byte in body:
        time.sleep(seconds / len(body))
        connection.send(byte.encode())
    return connection.getresponse().status


@contextlib.contextmanager
def _uploads(site: Site, seconds: int) -> Iterator[list[int]]:
    """Send one slow upload after another meanwhile, in two rows, and collect the statuses."""
    found: list[int] = []
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            found.append(_upload(site, seconds))

    with ThreadPoolExecutor(2) as visitors:
        rows = [visitors.submit(send)]
        time.sleep(seconds / 2)
        rows.append(visitors.submit(send))
        try:
            yield found
        finally:
            over.set()
    assert [row.exception() for row in rows] == [None, None]


def _no_request_fails(campaign: Campaign, site: Site, *servers: str) -> None:
    """Deploy once with each server under load, with uploads that last longer than the switch."""
    before, is_gunicorn = len(campaign.requests), []
    with campaign.load(RATE, slow_seconds=20), _uploads(site, seconds=40) as uploads:
        for name in servers:
            _succeeds(campaign.deploy("none", "-e", f"ledger_server={name}"))
            web = next(n for n in site.containers() if re.fullmatch(r"ledger-.+-web-1", n))
            is_gunicorn.append("gunicorn" in site.on_server("docker", "top", web))
    requests = campaign.requests[before:]
    assert len(requests) > RATE * 60
    assert [r for r in requests if r.outcome != "ok"] == []
    assert any(r.kind.startswith("slow") for r in requests)
    assert len(uploads) >= 4
    assert set(uploads) == {201}
    assert campaign.lost_and_doubled() == ([], [])
    assert f"release {campaign.number}" in site.request("/").body
    # Negative control: it is another server.
    assert is_gunicorn == [name != "uwsgi" for name in servers]


@pytest.mark.parametrize("server", ["gunicorn", "asgi"])
def test_no_request_fails_with_another_server(campaign: Campaign, site: Site, server: str) -> None:
    """The first deploy changes the server, from uWSGI the protocol, too; the second one neither."""
    _no_request_fails(campaign, site, server, server)


def test_web_sockets_outlive_the_switch(campaign: Campaign, site: Site) -> None:
    echoes: list[float] = []

    def visit() -> None:
        with WebSocket(site, "/echo") as visitor:
            assert visitor.status == 101
            while True:
                visitor.send("still there?")
                visitor.receive()
                echoes.append(time.time())
                time.sleep(1)

    _succeeds(campaign.deploy("none", "-e", "ledger_server=asgi"))
    with ThreadPoolExecutor(1) as visitors:
        ended = visitors.submit(visit)
        event = campaign.deploy("none", "-e", "ledger_server=asgi")
        _succeeds(event)
        assert isinstance(ended.exception(timeout=30), ConnectionError)
    drain = next(at for at, task in event.tasks if "Let older releases finish" in task)
    assert echoes[0] < drain
    # It has as long as a request.
    assert echoes[-1] - drain > 50


def test_no_request_fails_on_the_way_back_to_uwsgi(campaign: Campaign, site: Site) -> None:
    _no_request_fails(campaign, site, "uwsgi")
