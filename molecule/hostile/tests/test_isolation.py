"""Apps can harm neither each other nor their routes nor the server."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
import yaml
from conftest import Site, eventually

ROOT = Path(__file__).parents[3]
ROUTES = "/opt/flask-vps/edge/routes"
INVENTORY = ROOT / "molecule/hostile/inventory/hosts.yml"


def live(site: Site, app: str = "probe") -> str:
    """Return the ID of the live release from the link that only root can change."""
    return site.on_server("readlink", f"/opt/flask-vps/apps/{app}/current").strip().rsplit("/")[-1]


def by_name(site: Site, release: str, domain: str = hostile.PROBE) -> str:
    """Request a release by its ID, as a deploy does, and return the start of the response."""
    script = (
        "exec 3<>/dev/tcp/127.0.0.1/3031;"
        r"printf 'GET /health HTTP/1.0\r\nHost: %s\r\nX-Release: %s\r\n\r\n' $1 $2 >&3;"
        "head -c 12 <&3"
    )
    ask = ["docker", "exec", "edge-nginx-1", "bash", "-c", script, "ask", domain, release]
    return site.on_server(*ask)


def play(*arguments: str) -> str:
    """Run a playbook, which must succeed, and return its output."""
    command = ["ansible-playbook", *arguments]
    command += [f"--inventory={path}" for path in os.environ["SITE_INVENTORIES"].split(",")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def as_nobody(site: Site, command: str) -> str:
    """Run a command as an unprivileged user of the server."""
    script = f"setpriv --reuid=65534 --regid=65534 --clear-groups sh -c {command!r} 2>&1 || :"
    return site.on_server("sh", "-c", script)


def test_each_app_runs_with_its_own_user_id(site: Site) -> None:
    ask = "import os; print(os.getuid(), os.getgid(), os.getgroups())"
    numbers = json.loads(site.on_server("cat", "/opt/flask-vps/uids.json"))
    for app, domain in (("probe", hostile.PROBE), ("probe_http", hostile.PROBE_HTTP)):
        uid, gid, groups = hostile.run_inside(site, ask, domain).split(maxsplit=2)
        assert int(uid) == int(gid) == numbers[app]
        assert set(json.loads(groups)) <= {numbers[app]}
    assert len({*numbers.values(), 0, 10001}) == len(numbers) + 2
    # The app owns its old data and can store new data.
    code = "import os; open('/data/m', 'w'); os.remove('/data/m'); print(os.stat('/data').st_uid)"
    assert int(hostile.run_inside(site, code)) == numbers["probe"]


PLACES = [
    ROUTES,
    f"{ROUTES}/probe/current/run/app.sock",
    "/opt/flask-vps/edge/static/probe",
    "/opt/flask-vps/apps/probe/current/source",
    "/opt/flask-vps/apps/probe/current/release.json",
    "/opt/flask-vps/apps/probe/dumps",
]


@pytest.mark.parametrize("place", PLACES)
def test_users_of_the_server_cannot_read_files_of_apps(site: Site, place: str) -> None:
    assert "Permission denied" in as_nobody(site, f"ls -d {place}/. {place}")
    # Negative control: the file exists.
    site.on_server("ls", "-d", place)


CONNECT = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{}\")'"


def test_users_of_the_server_cannot_connect_to_an_app(site: Site) -> None:
    connect = CONNECT.format(f"{ROUTES}/probe/current/run/app.sock")
    done = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", connect]
    with pytest.raises(AssertionError, match="Permission"):
        site.on_server(*done)
    # Negative control: root, who passes the folders, can connect: nginx's workers need that.
    site.on_server("sh", "-c", connect)


def test_an_app_sees_only_its_own_socket(site: Site) -> None:
    look = "import os; print(os.listdir('/sockets'), os.stat('/sockets').st_uid)"
    assert hostile.run_inside(site, look).split() == ["['app.sock']", "0"]
    # An app with its own Dockerfile has no socket at all: the relay listens instead.
    exists = "import os; print(os.path.exists('/sockets'))"
    assert hostile.run_inside(site, exists, hostile.PROBE_HTTP) == "False\n"
    # Everything outside of the release's own file system belongs to root.
    owners = site.on_server("find", ROUTES, "-xdev", "!", "-path", "*/run", "-printf", "%u %m %y\n")
    assert {line for line in owners.splitlines() if not line.endswith("l")} <= {
        "root 755 d",
        "root 644 f",
    }
    change = "import os; os.chmod('/sockets', 0o777)"
    assert "PermissionError" in hostile.run_inside(site, change)


FILL = """
import errno, os
written = 0
try:
    with open("/sockets/big", "wb", buffering=0) as file:
        while written < 300_000_000:
            written += file.write(b"x" * 4096)
except OSError as error:
    print(errno.errorcode[error.errno], written)
made = 0
try:
    for made in range(100_000):
        os.symlink("x" * 4000, f"/sockets/link-{made}")
except OSError as error:
    print(errno.errorcode[error.errno], made)
"""
CLEAR = """
import os, shutil
for name in os.listdir("/sockets"):
    if name != "app.sock":
        path = "/sockets/" + name
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
print(os.listdir("/sockets"))
"""


def test_the_file_system_of_a_socket_is_small(site: Site) -> None:
    try:
        (full, written), (ended, made) = (
            line.split() for line in hostile.run_inside(site, FILL).splitlines()
        )
    finally:
        assert hostile.run_inside(site, CLEAR) == "['app.sock']\n"
    assert (full, ended) == ("ENOSPC", "ENOSPC")
    assert int(written) <= 65536
    assert int(made) <= 16


@pytest.fixture
def displaced(site: Site) -> Iterator[Any]:
    """Replace an app's socket with a link, and restore the socket afterwards."""
    web = f"probe-{live(site)}-web-1"
    inside = ["docker", "exec", web, "python3", "-c"]

    def displace(target: str) -> None:
        code = (
            "import os; s = '/sockets/app.sock';"
            "os.path.islink(s) or os.rename(s, '/sockets/real.sock');"
            f"os.path.lexists(s) and os.remove(s); os.symlink({target!r}, s)"
        )
        site.on_server(*inside, code)

    yield displace
    site.on_server(*inside, "import os; os.replace('/sockets/real.sock', '/sockets/app.sock')")
    eventually(lambda: site.named(hostile.PROBE).request("/health"))


def test_a_link_in_place_of_a_socket_leads_nowhere(site: Site, displaced: Any) -> None:
    own, other = live(site), live(site, "probe_http")
    for target in (
        f"/routes/probe_http/{other}/run/app.sock",
        f"../../../probe_http/{other}/run/app.sock",
        f"/routes/probe/{own}/run/real.sock",
        "real.sock",
        "/etc/passwd",
    ):
        displaced(target)
        assert site.named(hostile.PROBE).request("/health").status == 502, target
        assert not by_name(site, own).startswith("HTTP/1.1 2")
    # Negative control: the same link works in a folder where nginx follows links.
    naive = f"{ROUTES}/probe/naive/run"
    site.on_server("mkdir", "-p", naive)
    try:
        site.on_server("ln", "-s", f"/routes/probe/{own}/run/real.sock", f"{naive}/app.sock")
        assert " 200" in by_name(site, "naive")
    finally:
        site.on_server("rm", "-r", f"{ROUTES}/probe/naive")


def test_nginx_tells_which_release_it_routes_to(site: Site) -> None:
    mark = "/.well-known/flask-vps-release/"
    probe = site.named(hostile.PROBE)
    assert probe.request(mark + live(site)).status == 200
    for other in (live(site, "probe_http"), "0123456789ab", "..%2f..%2fprobe_http"):
        assert probe.request(mark + other).status == 404, other


# Keeps creating files and links in the socket's folder, to disturb the next release.
FLIP = """
import contextlib, os, subprocess, sys
code = '''
import contextlib, os, time
for name in (".current.sock.new", ".current.new", "current", "run"):
    with contextlib.suppress(OSError):
        os.makedirs("/sockets/" + name)
with contextlib.suppress(OSError):
    open("/sockets/big", "wb").write(b"x" * 1_000_000)
while True:
    for name in ("current.sock", "current-http.sock", "OTHER.sock"):
        with contextlib.suppress(OSError):
            os.symlink("app.sock", "/sockets/.x")
            os.rename("/sockets/.x", "/sockets/" + name)
    time.sleep(0.01)
'''
subprocess.Popen(["python3", "-c", code], start_new_session=True)
"""


def test_a_hostile_release_stops_neither_deploy_nor_rollback(site: Site) -> None:
    first = live(site)
    scenario = yaml.safe_load(INVENTORY.read_text())["servers"]["hosts"]["dev"]
    entry = {**scenario["scenario_probe"], "environment": {"MARK": str(time.time_ns())}}
    ask = "import os; print(os.environ.get('MARK'))"
    hostile.run_inside(site, FLIP)
    play("playbooks/deploy.yml", "-e", "app=probe", "-e", json.dumps({"scenario_probe": entry}))
    second = live(site)
    assert second != first
    assert hostile.run_inside(site, ask).strip() == entry["environment"]["MARK"]
    # No container of the first release is left to change the links again.
    assert not [name for name in site.containers() if first in name]
    assert site.on_server("readlink", f"{ROUTES}/probe/current").strip() == second

    hostile.run_inside(site, FLIP)
    play("playbooks/rollback.yml", "-e", "app=probe")
    assert live(site) == first
    assert hostile.run_inside(site, ask) == "None\n"
    # A rollback does not wait until the other release has ended.
    eventually(lambda: _without(site, second), seconds=90)
    assert second not in site.on_server("ls", f"{ROUTES}/probe")


def _without(site: Site, release: str) -> None:
    assert not [name for name in site.containers() if release in name]
