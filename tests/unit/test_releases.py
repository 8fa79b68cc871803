"""Releases: their states, the live one, the target of a rollback; and the lock."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load(kind: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"{kind}_{name}", ROOT / f"plugins/{kind}/{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


release = _load("modules", "release")
releases = _load("module_utils", "releases")
release_info = _load("modules", "release_info")
release_health = _load("modules", "release_health")
lock_file = _load("modules", "lock_file")
lock_action = _load("action", "release_lock")
app = _load("filter", "app")

ENTRY = {"name": "shop", "domains": ["shop.test"], "module": "shop:app"}


class Server:
    """The folders of an app on a server."""

    def __init__(self, root: Path) -> None:
        self.dir, self.routes, self.static = root / "app", root / "routes", root / "static"
        for folder in (self.dir / "releases", self.routes, self.static):
            folder.mkdir(parents=True)

    def record(self, name: str, **more: object) -> None:
        (self.dir / "releases" / name).mkdir()
        one = release.Release(self.dir, name)
        one.write({**one.read(), "entry": ENTRY, **more})

    def switch(
        self,
        name: str,
        kept: list[str] | None = None,
        rolled_back: bool = False,
        protocol: str = "uwsgi",
    ) -> bool:
        options = {
            "routes": self.routes, "static": self.static, "protocol": protocol, "slots": 5,
            "kept": kept or [], "leaves": self.info()["live"], "rolled_back": rolled_back,
        }  # fmt: skip
        return release.Release(self.dir, name).go_live(options)

    def info(self, keep: int = 5) -> dict:
        live = release_info.live_release(self.routes, self.dir)
        releases = release_info.read_releases(self.dir, live)
        return {
            "live": live,
            "releases": releases,
            "previous": release_info.previous_release(releases),
            "served": release_info.served_releases(releases),
            "stale": release_info.stale_releases(releases, keep),
        }

    def states(self) -> dict[str, str]:
        return {record["id"]: record["state"] for record in self.info()["releases"]}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_files_of_an_app_do_not_decide_which_release_is_live(server: Server) -> None:
    """In the old layout the app owned the folder with the link; only root's link counts."""
    sockets = server.routes.parent / "sockets"
    sockets.mkdir()
    (sockets / "current.sock").symlink_to("/sockets/another/app.sock")
    server.record("a")
    (server.dir / "current").symlink_to(server.dir / "releases/a")
    assert server.info()["live"] == "a"
    assert not release_info.has_moved(server.routes, "a")
    server.record("b")
    (server.routes / "b").mkdir()
    (server.routes / "b/b").touch()
    server.switch("b")
    assert server.info()["live"] == "b"
    assert release_info.has_moved(server.routes, "b")


def test_a_live_release_without_a_record_ends_no_rollback(server: Server) -> None:
    server.record("a", in_service=["2026-01-01"])
    found = {**server.info(), "live": "gone"}
    assert app.rollback_target(found, "shop", "a")["id"] == "a"


def test_a_release_whose_record_was_lost_ends_a_rollback_with_a_reason(server: Server) -> None:
    for name in "ab":
        server.record(name)
        server.switch(name)
        (server.dir / f"releases/{name}/release.json").unlink()
    # The switch away from the first release recorded only when it was live.
    error = app.rollback_target(server.info(), "shop", "a")["error"]
    assert "release.json was lost" in error


OLD_PROJECT = """
x-hardened: &hardened {read_only: true}
services:
  web: &web
    <<: *hardened
    image: flask-vps/shop:0a
    command: [echo, $$HOME]
    environment: {FLASK_APP: shop}
    secrets: [KEY]
    volumes:
      - ./uwsgi.ini:/etc/uwsgi.ini:ro
      - /opt/flask-vps/edge/sockets/shop:/sockets
      - {type: volume, source: shop.data, target: /data, volume: {nocopy: true}}
  relay:
    entrypoint: [sh, -c, "rm -f /sockets/0a.sock; exec nginx"]
    user: "10001:10001"
    volumes: [/opt/flask-vps/edge/sockets/shop:/sockets]
  worker-mail: {<<: *web, command: [work]}
"""


def test_a_release_of_before_is_described_anew() -> None:
    text = app.moved_release(OLD_PROJECT, "0a", 20003, "/routes/shop/0a/run")
    services = app.yaml.safe_load(text)["services"]
    assert {service["user"] for service in services.values()} == {"20003:20003"}
    for service in services.values():
        (socket,) = (v for v in service["volumes"] if "/sockets" in str(v))
        assert (socket["source"], socket["target"]) == ("/routes/shop/0a/run", "/sockets")
    assert services["relay"]["entrypoint"][2] == "rm -f /sockets/app.sock; exec nginx"
    assert services["web"]["command"] == ["echo", "$$HOME"]
    assert services["web"]["volumes"][2]["source"] == "shop.data"
    assert services["worker-mail"]["secrets"] == ["KEY"]
    again = app.moved_release(text, "0a", 20003, "/routes/shop/0a/run")
    assert again == text


def test_a_switch_renames_the_links_once(server: Server) -> None:
    server.record("a")
    assert server.info()["live"] == ""
    assert server.switch("a")
    assert not server.switch("a")
    assert (server.routes / "current").readlink() == Path("a")
    assert (server.static / "current").readlink() == Path("a")
    assert server.states() == {"a": "live"}
    assert [p.name for p in server.routes.iterdir()] == ["current"]


def test_a_switch_between_protocols_leaves_no_doubt_which_release_is_live(server: Server) -> None:
    found = {}
    for name, protocol in {"a": "uwsgi", "b": "http", "c": "http", "d": "uwsgi"}.items():
        server.record(name)
        assert server.switch(name, protocol=protocol)
        assert not server.switch(name, protocol=protocol)
        assert server.info()["live"] == name
        paths = server.routes.iterdir()
        found[name] = {p.name: p.is_symlink() and str(p.readlink()) for p in paths}
    # The other link still leads to the release before, for requests on their way to it.
    assert found == {
        "a": {"current": "a"},
        "b": {"current": "a", "current-http": "b", "speaks-http": False},
        "c": {"current": "a", "current-http": "c", "speaks-http": False},
        "d": {"current": "d", "current-http": "c"},
    }


def test_the_link_of_an_older_version_of_this_project_decides_without_the_file(
    server: Server,
) -> None:
    server.record("a")
    server.switch("a", protocol="http")
    (server.routes / "speaks-http").unlink()
    assert server.info()["live"] == "a"
    # The next deploy adds the file, even if nothing else has changed.
    assert server.switch("a", protocol="http")
    assert (server.routes / "speaks-http").exists()


def test_a_return_after_another_protocol_is_a_switch(server: Server) -> None:
    for name, protocol in {"a": "uwsgi", "b": "http"}.items():
        server.record(name)
        server.switch(name, protocol=protocol)
    assert server.switch("a", rolled_back=True)
    assert server.states() == {"a": "live", "b": "rolled back"}


def test_a_second_rollback_goes_further_back(server: Server) -> None:
    for name in "abc":
        server.record(name)
        server.switch(name)
    assert server.info()["previous"] == "b"
    server.switch("b", rolled_back=True)
    assert server.states()["c"] == "rolled back"
    assert server.info()["previous"] == "a"
    # After another deploy it is a normal release again.
    server.switch("c")
    assert server.states()["c"] == "live"
    assert server.info()["previous"] == "b"


def test_a_run_killed_between_link_and_record_loses_no_release(server: Server) -> None:
    server.record("a")
    releases.point(server.routes / "current", "a")
    assert server.info()["live"] == "a"
    server.record("b")
    server.switch("b")
    assert server.states() == {"a": "good", "b": "live"}
    assert server.info()["previous"] == "a"


def test_failed_and_unfinished_releases_are_no_place_to_return_to(server: Server) -> None:
    server.record("good")
    server.switch("good")
    server.record("live")
    server.switch("live")
    server.record("failed", failed="2026-01-01")
    server.record("unfinished")
    (server.dir / "releases/bare").mkdir()
    info = server.info()
    assert server.states()["failed"] == "failed"
    assert info["previous"] == "good"
    assert set(info["stale"]) == {"failed", "unfinished", "bare"}
    error = app.rollback_target(info, "shop", "failed")["error"]
    assert "never became healthy" in error
    assert "Choose one of: good" in error
    assert "has no release nonsense" in app.rollback_target(info, "shop", "nonsense")["error"]
    assert "already has the live release live" in app.rollback_target(info, "shop", "live")["error"]
    assert app.rollback_target(info, "shop")["id"] == "good"


def test_only_so_many_releases_stay(server: Server) -> None:
    for name in "abcdef":
        server.record(name)
        server.switch(name)
    assert set(server.info(keep=2)["stale"]) == {"a", "b", "c"}
    assert server.info(keep=5)["stale"] == []


def test_what_stays_after_a_rollback_keeps_its_static_files(server: Server) -> None:
    for name in "abcdefg":
        server.record(name)
        server.switch(name, kept=server.info()["served"])
    server.switch("b", kept=[i for i in server.info()["served"] if i != "b"], rolled_back=True)
    server.record("h")
    youngest = [r["id"] for r in server.info()["releases"] if r["id"] != "h"]
    server.switch("h", kept=server.info()["served"])
    stay = {*"abcdefg"} - set(server.info(keep=5)["stale"])
    assert {link.readlink().name for link in server.static.glob("kept-*")} == stay
    # Negative control: these are not just the youngest five.
    assert set(youngest[:5]) != stay


def test_status_is_a_table(server: Server) -> None:
    server.record("0123456789ab", commit="abcdef", by="me@here")
    server.switch("0123456789ab")
    heading, line = app.release_table(server.info())
    assert heading.split()[:2] == ["RELEASE", "STATE"]
    assert line.split()[:2] == ["0123456789ab", "live"]
    assert line.endswith("abcdef  me@here")


@pytest.mark.parametrize(
    ("state", "restarts", "said"),
    [
        ({"Status": "running", "ExitCode": 0}, 0, ""),
        ({"Status": "exited", "ExitCode": 3}, 0, "ended with exit code 3"),
        # Docker has restarted it, so its state says 0.
        ({"Status": "running", "ExitCode": 0}, 1, "its container web ended with exit code 22"),
        ({"Status": "restarting", "ExitCode": 0}, 0, "ended with exit code 22"),
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, 0, "raise memory_mb"),
        # A worker process was killed and replaced.
        ({"Status": "running", "ExitCode": 0, "OOMKilled": True}, 0, ""),
    ],
)
def test_a_container_that_ended_is_known(
    state: dict, restarts: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = "" if state["Status"] == "exited" else "die 22\ndie 0\n"
    answer = subprocess.CompletedProcess([], 0, events, "")
    monkeypatch.setattr(release_health, "docker", lambda *arguments: answer)
    labels = {"com.docker.compose.service": "web"}
    container = {"State": state, "RestartCount": restarts, "Config": {"Labels": labels}}
    container |= {"Id": "c", "Created": "2026-01-01T00:00:00Z"}
    reason = release_health.ended(container, 0)
    assert said in reason
    assert bool(said) == bool(reason)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ("oom \ndie 137\ndie 0\n", "ran out of memory: raise memory_mb"),
        ("die 127\n", "exit code 127 (its command was not found)"),
        # Docker keeps a limited number of events; no exit code is better than a wrong one.
        ("", "its container web ended"),
    ],
)
def test_the_first_end_counts(events: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 0, events, "")
    monkeypatch.setattr(release_health, "docker", lambda *arguments: answer)
    labels = {"com.docker.compose.service": "web"}
    container = {"Id": "c", "Created": "", "RestartCount": 2, "Config": {"Labels": labels}}
    reason = release_health.ended(container | {"State": {"Status": "running", "ExitCode": 0}}, 1)
    assert reason.endswith(said)


def test_the_lock_has_one_holder(tmp_path: Path) -> None:
    path, me, other = tmp_path / "lock", {"id": "me"}, {"id": "other"}
    assert lock_file.take(path, me, None) == me
    assert lock_file.take(path, other, None) == me
    # A lock is taken over only from the owner that was read before.
    assert lock_file.take(path, other, {"id": "third"}) == me
    assert lock_file.take(path, other, me) == other
    assert json.loads(path.read_text()) == other


def test_only_a_holder_of_this_machine_can_be_known_to_be_gone() -> None:
    here = "here"
    alive = {"host": here, "pid": os.getpid(), "started": lock_action.started(os.getpid())}
    assert not lock_action.is_gone(alive, here)
    assert lock_action.is_gone({**alive, "started": "another time"}, here)
    assert lock_action.is_gone({**alive, "pid": 2**22 + 1}, here)
    assert not lock_action.is_gone({**alive, "host": "there", "pid": 2**22 + 1}, here)


def test_a_holder_on_another_machine_is_gone_once_it_is_silent() -> None:
    there = {"host": "here", "machine": "here pid:[2]", "pid": 1, "started": "x", "renewed": True}
    here = "here pid:[1]"
    assert not lock_action.is_gone(there, here, lock_action.EXPIRY_SECONDS - 1)
    assert lock_action.is_gone(there, here, lock_action.EXPIRY_SECONDS + 1)
    # A lock of an older version of this project is never renewed.
    old = {"host": "there", "pid": 1, "started": "x"}
    assert not lock_action.is_gone(old, here, lock_action.EXPIRY_SECONDS + 1)


def test_two_machines_of_one_name_are_told_apart() -> None:
    """The namespaces of their first processes have the same name, but each boot has its own ID."""
    here = lock_action.machine()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    other = here.replace(boot, "0c9c1d7c-0000-4000-8000-000000000000")
    assert other != here
    holder = {"host": here.split()[0], "machine": other, "pid": 1, "started": "x", "renewed": True}
    assert not lock_action.is_gone(holder, here, lock_action.EXPIRY_SECONDS - 1)
    assert lock_action.is_gone(holder, here, lock_action.EXPIRY_SECONDS + 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_lock_without_content_expires_as_well(tmp_path: Path, text: str) -> None:
    path, me = tmp_path / "lock", {"id": "me"}
    path.write_text(text)
    found = lock_file.take(path, me, None)
    assert "unknown on unknown (process unknown)" in lock_action.describe(found)
    here = lock_action.machine()
    assert not lock_action.is_gone(found, here, lock_action.EXPIRY_SECONDS - 1)
    assert lock_action.is_gone(found, here, lock_action.EXPIRY_SECONDS + 1)
    assert lock_file.take(path, me, found) == me


def _locked_run(lock: Path, *tasks: dict) -> list[dict]:
    """Return a play that takes the lock on this machine and then runs `tasks`."""
    take = {"state": "taken", "path": str(lock), "renew_seconds": 0.5}
    return [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [{"release_lock": take}, *tasks],
        }
    ]


def _play(folder: Path, play: list[dict]) -> subprocess.CompletedProcess[str]:
    file = folder / "play.yml"
    file.write_text(json.dumps(play))
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [
        program,
        "-i",
        "localhost,",
        "-e",
        f"ansible_python_interpreter={sys.executable}",
        file,
    ]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT, timeout=60
    )


def test_a_run_renews_its_lock_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    old = {
        "ansible.builtin.file": {
            "path": str(lock),
            "state": "touch",
            "modification_time": "202001010000.00",
        }
    }
    done = _play(tmp_path, _locked_run(lock, old, {"ansible.builtin.pause": {"seconds": 3}}))
    assert done.returncode == 0, done.stdout
    assert time.time() - lock.stat().st_mtime < 60
    # As after a killed run, the lock is still there, but not renewed any more.
    time.sleep(1.5)
    os.utime(lock, (0, 0))
    time.sleep(1.5)
    assert lock.stat().st_mtime == 0


def test_the_lock_of_a_silent_machine_is_taken_over_and_a_living_one_is_not(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holder = {
        "id": "ci",
        "user": "ci",
        "host": "gone",
        "machine": "gone",
        "renewed": True,
        "pid": 1,
    }
    lock.write_text(json.dumps(holder))
    refused = _play(tmp_path, _locked_run(lock))
    assert refused.returncode != 0
    assert "its lock expires 5 minutes after its last sign of life" in refused.stdout
    assert json.loads(lock.read_text()) == holder
    os.utime(lock, (time.time() - 301, time.time() - 301))
    taken = _play(tmp_path, _locked_run(lock))
    assert taken.returncode == 0, taken.stdout
    assert json.loads(lock.read_text())["id"] != "ci"


def test_allowed_networks_are_read_or_refused() -> None:
    assert app.networks("192.0.2.7, 2001:db8::1/32") == ["192.0.2.7/32", "2001:db8::/32"]
    assert app.networks("") == []
    with pytest.raises(app.AnsibleFilterError, match="allow=nonsense"):
        app.networks("nonsense")


def test_a_deploy_stops_no_job_and_the_database_last() -> None:
    def container(service: str, **labels: str) -> dict:
        labels = {
            "flask-vps.app": "shop",
            "flask-vps.release": "old",
            "com.docker.compose.service": service,
            **{name.replace("_", "."): value for name, value in labels.items()},
        }
        return {"Names": [f"/{service}"], "Labels": labels}

    found = [
        container("worker-mail"),
        container("web"),
        {
            **container("job"),
            "Labels": {**container("web")["Labels"], "com.docker.compose.oneoff": "True"},
        },
        container("relay"),
    ]
    assert app.containers_of(found, "shop", but="new") == ["relay", "web", "worker-mail"]
    assert "job" in app.containers_of(found, "shop")
    # Removing the app begins with the container of its host names, whatever its name is.
    found.append(
        {
            "Names": ["/shop-vhost-0123456789ab"],
            "Labels": {
                "com.docker.compose.project": "shop-vhost",
                "com.docker.compose.service": "vhost-0123456789ab",
            },
        }
    )
    assert app.containers_of(found, "shop")[0] == "shop-vhost-0123456789ab"
