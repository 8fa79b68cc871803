"""Kill or stop the main process of each container; the site must recover. Run by file name."""

import pytest
from conftest import Site, eventually

PARTS = ["edge-nginx", "edge-docker-gen", "edge-acme-companion", "-db-db-", "-web-", "-vhost-"]


@pytest.mark.parametrize("part", PARTS)
def test_killed_container_comes_back(site: Site, part: str) -> None:
    name = site.container(part)
    before = site.containers()[name]
    # From the host, like a crash: Docker does not restart a container after `docker kill`.
    site.on_server("kill", "-9", str(before["State"]["Pid"]))

    def served_again() -> None:
        running = site.containers()
        assert name in running
        after = running[name]
        assert after["State"]["Pid"] not in (0, before["State"]["Pid"])
        assert after["RestartCount"] > before["RestartCount"]
        assert after["State"].get("Health", {}).get("Status", "healthy") == "healthy"
        assert site.request("/readyz").status == 200

    eventually(served_again, seconds=60)


def _ends(site: Site, name: str, after: float, seconds: int = 10) -> bool:
    """Restart a container, send its main process SIGTERM `after` seconds later; tell if it ends."""
    script = """
        docker restart --time 0 "$1" >/dev/null
        pid=$(docker inspect --format '{{.State.Pid}}' "$1")
        sleep "$2"
        kill -TERM "$pid"
        timeout "$3" sh -c 'while kill -0 "$0" 2>/dev/null; do sleep 0.1; done' "$pid" || echo lives
    """
    return not site.on_server("sh", "-c", script, "sh", name, str(after), str(seconds))


@pytest.mark.parametrize(
    ("part", "after"),
    # For uWSGI: before and while its workers load the app.
    [("edge-docker-gen", 0), ("edge-acme-companion", 0), ("-web-", 0), ("-web-", 0.4)],
)
def test_container_that_still_starts_can_be_stopped(site: Site, part: str, after: float) -> None:
    # A process that ignores SIGTERM delays a reboot of the server by 90 seconds.
    name = site.container(part)
    assert _ends(site, name, after)

    def served_again() -> None:
        assert name in site.containers()
        assert site.request("/readyz").status == 200

    eventually(served_again, seconds=60)


@pytest.mark.parametrize(
    ("change", "ends"),
    # Negative control: without the handler of SIGHUP that a new worker inherits from its master.
    [("", True), ("/^hook-asap = unix_signal:1 /d", False)],
)
def test_new_worker_can_be_stopped(site: Site, change: str, ends: bool) -> None:
    web = site.container("-web-")
    settings = f"/opt/flask-vps/apps/{web.partition('-')[0]}/current/uwsgi.ini"
    # The sleep prolongs the moment before the worker's own hook, so that the signal arrives in it.
    script = """
        trap 'docker rm --force naive >/dev/null' EXIT
        sed -e 's/^hook-post-fork/hook-post-fork = exec:sleep 60\\n&/' -e "$1" "$2" >/run/naive.ini
        docker run --detach --init --name naive --tmpfs /sockets:mode=1777 \
            --volume /run/naive.ini:/etc/uwsgi.ini:ro --entrypoint uwsgi "$3" \
            --ini /etc/uwsgi.ini >/dev/null
        timeout 30 sh -c 'until docker logs naive 2>&1 | grep -q master-start; do sleep 0.1; done'
        docker kill --signal TERM naive >/dev/null
        timeout 10 docker wait naive >/dev/null || echo lives
    """
    image = site.containers()[web]["Config"]["Image"]
    assert (not site.on_server("sh", "-euc", script, "sh", change, settings, image)) == ends


def test_bare_process_1_misses_its_stop(site: Site) -> None:
    image = site.containers()[site.container("-vhost-")]["Config"]["Image"]
    run = ["docker", "run", "--detach", "--name", "naive", "--entrypoint", "sleep", image, "60"]
    site.on_server(*run)
    try:
        assert not _ends(site, "naive", 0, seconds=2)
    finally:
        site.on_server("docker", "rm", "--force", "naive")
