"""The data that status.yml collects, and its findings."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import server_info
from checks.running import Report, expected, judge_container, report
from status import status_report

NOW = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
LIVE = "0123456789ab"
SHOP = {"name": "shop", "domains": ["shop.test"]}


def container(name: str, project: str, service: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name, "project": project, "service": service, "once": False, "app": "",
        "release": "", "state": "running", "health": "", "exit_code": 0, "error": "",
        "out_of_memory": False, "oom_kills": 0, "restarts": 0,
        "started": "2026-05-20T10:00:00.5Z", "finished": "0001-01-01T00:00:00Z",
    } | changed  # fmt: skip


def disk(name: str = "/", used: int = 40, inodes: int = 5) -> dict[str, Any]:
    return {
        "name": name, "also": [], "total": 10**11, "free": 6 * 10**10, "used": used,
        "inodes": inodes,
    }  # fmt: skip


def server(**changed: Any) -> dict[str, Any]:
    """Return the data of a healthy server, with changes."""
    release = {"app": "shop", "release": LIVE}
    return {
        "engine": {"installed": True, "answers": True, "version": "26.1", "error": ""},
        "deployed": True,
        "edge": ["nginx", "acme-companion"],
        "apps": [
            {
                "name": "shop",
                "live": LIVE,
                "entry": SHOP,
                "services": ["web", "worker-mail"],
                "jobs": {},
            }
        ],
        "others": [],
        "containers": [
            container("edge-nginx-1", "edge", "nginx", health="healthy"),
            container("edge-acme-companion-1", "edge", "acme-companion"),
            container(f"shop-{LIVE}-web-1", f"shop-{LIVE}", "web", health="healthy", **release),
            container(f"shop-{LIVE}-worker-mail-1", f"shop-{LIVE}", "worker-mail", **release),
            container("shop-vhost-b-1", "shop-vhost", "b"),
            container("shop-db-db-1", "shop-db", "db", health="healthy"),
        ],
        "disks": [disk()],
        "now": NOW.timestamp(),
    } | changed


def without(name: str) -> dict[str, Any]:
    whole = server()
    return whole | {"containers": [c for c in whole["containers"] if c["name"] != name]}


def changed(name: str, **change: Any) -> dict[str, Any]:
    whole = server()
    there = [c | change if c["name"] == name else c for c in whole["containers"]]
    assert there != whole["containers"]
    return whole | {"containers": there}


def judged(**change: Any) -> Report:
    made = Report()
    judge_container(made, container("x", "shop-db", "db", **change), NOW)
    return made


def test_nothing_is_wrong_where_all_is_well() -> None:
    made = report(server(), [SHOP])
    assert made.found == []
    assert "WRONG" not in "\n".join(made.lines)


@pytest.mark.parametrize("name", [c["name"] for c in server()["containers"]])
@pytest.mark.parametrize("how", ["stopped", "removed"])
def test_each_container_that_does_not_run_is_named(name: str, how: str) -> None:
    ended = {"state": "exited", "exit_code": 137, "finished": "2026-06-01T11:00:00Z"}
    made = report(without(name) if how == "removed" else changed(name, **ended), [SHOP])
    [found] = made.wrong
    assert (name in found) or (how == "removed" and "shop-vhost" in found)
    assert "is missing" in found if how == "removed" else "exited since 2026-06-01 11:00" in found
    assert "WRONG" in "\n".join(made.lines)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "restarting", "exit_code": 1}, "is restarting (exit code 1)"),
        ({"state": "exited", "exit_code": 137, "out_of_memory": True}, "it ran out of memory"),
        ({"state": "created", "error": "port is already allocated"}, "port is already allocated"),
        ({"health": "unhealthy"}, "is unhealthy"),
        ({"oom_kills": 3}, "3 processes were killed because its memory was full"),
        ({"out_of_memory": True}, "a process was killed"),
        ({"restarts": 4, "started": "2026-06-01T11:55:00Z"}, "was restarted 4 times"),
    ],
)
def test_problems_of_containers_are_errors(change: dict[str, Any], words: str) -> None:
    [found] = judged(**change).wrong
    assert words in found and found.startswith("x: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"restarts": 1, "started": "2026-06-01T05:00:00Z"}, "restarted 1 times"),
        ({"health": "starting"}, "not healthy yet"),
    ],
)
def test_what_may_be_over_is_a_warning(change: dict[str, Any], words: str) -> None:
    made = judged(**change)
    assert made.wrong == [] and words in made.cautions[0]


def test_a_restart_of_long_ago_is_shown_and_no_more() -> None:
    assert judged(restarts=7).found == []


def test_an_older_release_that_finishes_and_a_job_are_no_faults() -> None:
    whole = server()
    old = container("shop-old-web-1", "shop-old", "web", app="shop", release="old", state="exited")
    job = container("shop-job-x", f"shop-{LIVE}", "web", app="shop", once=True, state="exited")
    made = report(whole | {"containers": [*whole["containers"], old, job]}, [SHOP])
    assert made.found == [] and "not current" in "\n".join(made.lines)


def test_an_app_that_is_to_be_absent() -> None:
    gone = {"name": "shop", "state": "absent"}
    made = report(server(), [gone])
    assert made.wrong == [] and any("has state: absent" in text for text in made.cautions)
    empty = server(apps=[{"name": "shop", "live": "", "entry": {}, "services": [], "jobs": {}}])
    there = [c for c in empty["containers"] if c["project"] == "edge"]
    assert report(empty | {"containers": there}, [gone]).found == []


def test_an_app_that_was_never_deployed() -> None:
    other = {"name": "blog", "domains": ["blog.test"]}
    [found] = report(server(), [SHOP, other]).wrong
    assert found == "blog: has no live release. Deploy it"


@pytest.mark.parametrize(("database", "has"), [("postgres", True), ("sqlite", False)])
def test_a_database_is_expected_where_the_live_release_has_one(database: str, has: bool) -> None:
    whole = server()
    whole["apps"][0]["entry"] = SHOP | {"database": database}
    assert (("shop-db", "db") in expected(whole, [SHOP])) == has


def test_an_engine_that_does_not_answer() -> None:
    down = {"installed": True, "answers": False, "version": "", "error": "Cannot connect to x"}
    made = report(server(engine=down, containers=[]), [SHOP])
    [found] = made.wrong
    assert "the Docker engine: does not answer (Cannot connect to x)" in found
    assert "systemctl status docker" in found


def test_a_bare_server() -> None:
    bare = {"installed": False, "answers": False, "version": "", "error": ""}
    made = report(server(engine=bare, deployed=False, apps=[], edge=[], containers=[]), [SHOP])
    assert made.wrong == ["the server: is not set up. Run site.yml"]


def test_an_engine_without_the_edge() -> None:
    [found] = report(server(edge=[]), [SHOP]).wrong
    assert found == "the edge: is not set up. Run site.yml"


@pytest.mark.parametrize(
    ("disks", "words"),
    [
        ([disk(used=91)], "the file system of /: is full: 91 % of its space used"),
        ([disk(), disk("volume shop.data", used=100)], "volume shop.data: is full: 100 %"),
        ([disk(inodes=95)], "95 % of its inodes used"),
        ([disk(used=90)], ""),
    ],
)
def test_a_full_disk(disks: list[dict[str, Any]], words: str) -> None:
    found = report(server(disks=disks), [SHOP]).wrong
    assert len(found) == bool(words) and words in "".join(found)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"started": "2026-06-01T10:00:00+00:00", "exit_code": 0, "skipped": 0}, ""),
        ({"started": "2026-06-01T10:00:00+00:00", "exit_code": 3}, "failed with exit code 3"),
        ({"started": "2026-06-01T10:00:00", "exit_code": None, "skipped": 9}, "skipped 9 times"),
        ({"started": "2026-06-01T10:00:00", "exit_code": None, "skipped": 1}, ""),
        ({}, ""),
    ],
)
def test_results_of_jobs(result: dict[str, Any], words: str) -> None:
    whole = server()
    job = container("shop-job-mail", f"shop-{LIVE}", "web", app="shop", once=True)
    whole["containers"].append(job)
    whole["apps"][0]["jobs"] = {"mail": result, "of-another-time": {"exit_code": 1}}
    entry = SHOP | {"cron": [{"name": "mail", "schedule": "* * * * *", "command": "x"}]}
    found = report(whole, [entry]).wrong
    assert len(found) == bool(words) and words in "".join(found)


@pytest.mark.parametrize(
    ("started", "left", "answers", "cut_off"),
    [
        ("2026-06-01T10:00:00+00:00", None, True, True),
        ("2026-06-01T10:00:00+00:00", "exited", True, True),
        ("2026-06-01T10:00:00+00:00", "running", True, False),
        # Its container is about to start, or Docker cannot be asked.
        ("2026-06-01T11:59:30+00:00", None, True, False),
        ("2026-06-01T10:00:00+00:00", None, False, False),
    ],
)
def test_a_job_that_a_reboot_cut_off_does_not_seem_to_run(
    started: str, left: str | None, answers: bool, cut_off: bool
) -> None:
    whole = server()
    whole["engine"]["answers"] = answers
    if left:
        job = container("shop-job-mail", f"shop-{LIVE}", "web", app="shop", once=True, state=left)
        whole["containers"].append(job)
    whole["apps"][0]["jobs"] = {"mail": {"started": started, "ended": None, "exit_code": None}}
    entry = SHOP | {"cron": [{"name": "mail", "schedule": "* * * * *", "command": "x"}]}
    made = report(whole, [entry])
    assert any("job mail of shop: was interrupted" in text for text in made.wrong) == cut_off
    assert ("interrupted" in "\n".join(made.lines)) == cut_off


def test_sites_count_as_much_as_containers() -> None:
    site = {"domain": "shop.test", "answer": "200", "certificate": "expired", "found": ["x"]}
    visited = {"sites": [site], "wrong": ["https://shop.test/: expired"], "cautions": []}
    found = status_report(server(), [SHOP], visited, True)
    assert found["wrong"] == ["https://shop.test/: expired"]
    assert found["verdict"] == "- https://shop.test/: expired"
    assert "https://shop.test/  200     expired      see below" in found["text"]
    assert status_report(server(), [SHOP], {"skipped": True}, True)["wrong"] == []


# -- the module ------------------------------------------------------------------------------------


def test_services_are_read_from_our_own_compose_files(tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(
        "# From a template.\nx-hardened: &hardened\n  init: true\n  labels: &labels\n"
        "    flask-vps.app: shop\n\nservices:\n  web: &web\n    image: x\n    # a comment\n"
        "# another\n\n  worker-mail:\n    <<: *web\n    environment:\n      A: b\n\n"
        "networks:\n  backend: {external: true}\n"
    )
    assert server_info.services(file) == ["web", "worker-mail"]
    assert server_info.services(tmp_path / "none") == []


def test_the_templates_are_of_the_form_that_is_read() -> None:
    roles = Path(__file__).parents[2] / "roles"
    for template, service in {
        "proxy/templates/compose.yml.j2": "acme-companion",
        "postgres/templates/compose.yml.j2": "db",
        "app/templates/release/compose.yml.j2": "web",
    }.items():
        text = (roles / template).read_text()
        assert "\nservices:\n" in text and f"\n  {service}:" in text, template


def test_an_app_is_read_by_roots_own_record(tmp_path: Path) -> None:
    release = tmp_path / "releases" / LIVE
    release.mkdir(parents=True)
    (release / "compose.yml").write_text("services:\n  web:\n    image: x\n")
    (release / "release.json").write_text('{"entry": {"name": "shop"}}')
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/mail.json").write_text('{"exit_code": 1}')
    (tmp_path / "jobs/broken.json").write_text("{")
    assert server_info.look_at_app("shop", tmp_path)["live"] == ""
    (tmp_path / "current").symlink_to(f"releases/{LIVE}")
    found = server_info.look_at_app("shop", tmp_path)
    assert (found["live"], found["services"], found["entry"]) == (LIVE, ["web"], {"name": "shop"})
    assert found["jobs"] == {"mail": {"exit_code": 1}, "broken": {}}


@pytest.mark.parametrize(
    ("line", "file"),
    [("0::/docker/x", "docker/x/memory.events"), ("4:memory:/d", "memory/d/memory.oom_control")],
)
def test_kills_for_want_of_memory_are_counted(tmp_path: Path, line: str, file: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(f"9:name=systemd:/docker/x\n{line}\n")
    counter = tmp_path / "cgroups" / file
    counter.parent.mkdir(parents=True)
    counter.write_text("low 0\noom 5\noom_kill 2\n")
    assert server_info.oom_kills(7, tmp_path, tmp_path / "cgroups") == 2
    assert server_info.oom_kills(8, tmp_path, tmp_path / "cgroups") == 0
    assert server_info.oom_kills(0) == 0


def test_a_file_system_is_measured_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    places = {"a": tmp_path, "b": tmp_path / "sub", "none": tmp_path / "none"}
    [found] = server_info.disks(places)
    assert (found["name"], found["also"]) == ("a", ["b"])
    assert 0 <= found["used"] <= 100 and found["free"] > 0
