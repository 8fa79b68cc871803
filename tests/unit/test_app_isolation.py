"""Isolation of apps: their user IDs, the owners of their volumes, and their routes."""

import errno
import importlib.machinery
import importlib.util
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import jinja2
import pytest
import yaml
from conftest import run_module

ROOT = Path(__file__).parents[2]
OLD, NEW = 10001, 20000
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to change owners of files")


def _load(path: str) -> ModuleType:
    name = Path(path).stem
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


app_uid = _load("plugins/modules/app_uid.py")
volume_owner = _load("plugins/modules/volume_owner.py")
release_served = _load("plugins/modules/release_served.py")
routes = _load("roles/proxy/files/routes")
ROUTES = routes.Routes


def test_an_app_keeps_its_user_id(tmp_path: Path) -> None:
    path = tmp_path / "uids.json"
    numbers: dict[str, int] = {}
    for name in ("shop", "blog", "shop"):
        numbers[name] = app_uid.choose(name, numbers, set())
    assert numbers == {"shop": 20000, "blog": 20001}
    app_uid.write(path, numbers)
    assert app_uid.read(path) == numbers
    # Skips IDs of the server's users, and never reuses the ID of a removed app.
    assert app_uid.choose("wiki", {"gone": 20001}, {20002, 20003}) == 20004


def test_a_number_of_a_group_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the group's members would have the rights of the app's group."""
    group = app_uid.grp.struct_group(("staff", "x", app_uid.FIRST, ["somebody"]))
    monkeypatch.setattr(app_uid.grp, "getgrall", lambda: [group])
    assert app_uid.FIRST in app_uid.numbers_in_use()
    assert 0 in app_uid.numbers_in_use()


def test_a_damaged_list_of_numbers_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "uids.json"
    assert app_uid.read(path) == {}
    for text in ("", "[]", '{"shop": "x"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            app_uid.read(path)
    with pytest.raises(ValueError, match="are taken"):
        app_uid.choose("new", {"last": app_uid.LAST}, set())


class Volume:
    """A volume with files of an old release."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sub").mkdir(parents=True)
        for name, mode in {"app.db": 0o644, "sub/key": 0o600, "sub/tool": 0o750}.items():
            (root / name).write_text("old")
            (root / name).chmod(mode)
        (root / "link").symlink_to("/etc/passwd")
        for path in [root, *root.rglob("*")]:
            os.chown(path, OLD, OLD, follow_symlinks=False)

    def hand(self, users: list[int], stays: bool = False) -> int:
        handover = volume_owner.Handover(NEW, users, OLD, stays)
        handover.tree(self.root)
        return handover.changed

    def listing(self) -> dict[str, tuple[int, int, str]]:
        found = {}
        for path in [self.root, *self.root.rglob("*")]:
            state = path.lstat()
            mode = stat.filemode(state.st_mode)
            found[str(path.relative_to(self.root))] = (state.st_uid, state.st_gid, mode)
        return found

    def works_for(self, user: int, mark: str) -> bool:
        """Tell whether a user can change all files, and create and remove files."""
        code = f"""
import os, sys
os.chdir({str(self.root)!r})
os.setgroups([]); os.setgid({user}); os.setuid({user})
for folder, folders, files in os.walk("."):
    for name in files:
        if name != "link":
            with open(os.path.join(folder, name), "a+") as file:
                file.write({mark!r})
    open(os.path.join(folder, {mark!r}), "w").close()
    os.remove(os.path.join(folder, {mark!r}))
os.makedirs("made-by-{user}", exist_ok=True)
open("made-by-{user}/file", "w").close()
"""
        return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    return Volume(tmp_path / "volume")


@as_root
def test_old_and_new_release_write_to_a_volume_while_it_changes_hands(volume: Volume) -> None:
    passwd, before = Path("/etc/passwd").stat(), volume.listing()
    # Negative control: before the handover, only the old user can.
    assert volume.works_for(OLD, "a")
    assert not volume.works_for(NEW, "a")

    assert volume.hand([OLD, NEW], stays=True)
    assert volume.listing()["app.db"][0] == OLD
    for user in (OLD, NEW, OLD):
        assert volume.works_for(user, "b")
    assert volume.hand([OLD, NEW])
    assert volume.listing()["app.db"][0] == NEW
    for user in (OLD, NEW, OLD):
        assert volume.works_for(user, "c")
    assert volume.hand([])
    assert volume.works_for(NEW, "d")
    assert not volume.works_for(OLD, "d")

    after = volume.listing()
    assert {(uid, gid) for uid, gid, _ in after.values()} == {(NEW, NEW)}
    assert {name: after[name][2] for name in before} == {name: before[name][2] for name in before}
    assert (passwd.st_uid, passwd.st_mode) == (
        Path("/etc/passwd").stat().st_uid,
        Path("/etc/passwd").stat().st_mode,
    )
    assert volume.hand([]) == 0


@as_root
def test_a_plain_change_of_owner_stops_the_old_release(volume: Volume) -> None:
    """Negative control: without access control lists, the old release loses access."""
    assert volume.works_for(OLD, "a")
    volume.hand([])
    assert not volume.works_for(OLD, "b")


@as_root
def test_an_interrupted_handover_is_taken_up_again(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.hand([OLD, NEW])
    real, left = os.removexattr, [2]

    def fails(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(os, "removexattr", fails)
    with pytest.raises(KeyboardInterrupt):
        volume.hand([])
    monkeypatch.undo()
    assert volume.hand([])
    assert not volume.works_for(OLD, "a")


@as_root
def test_an_app_s_own_lists_of_access_stay(volume: Volume) -> None:
    volume.hand([])
    own = volume_owner.pack(volume_owner.shared(0o640, 0, [4711]))
    os.setxattr(volume.root / "app.db", volume_owner.ACCESS, own)
    os.setxattr(
        volume.root, volume_owner.ACCESS, volume_owner.pack(volume_owner.shared(0o755, 5, [4711]))
    )
    assert volume.hand([]) == 0
    os.chown(volume.root, OLD, OLD)
    assert volume.hand([])
    assert os.getxattr(volume.root / "app.db", volume_owner.ACCESS) == own


@as_root
def test_a_file_system_without_lists_is_handed_over_all_the_same(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuses)
    handover = volume_owner.Handover(NEW, [OLD, NEW], OLD, owner_stays=True)
    handover.tree(volume.root)
    assert handover.without_lists
    assert volume.works_for(NEW, "a")


@as_root
def test_depth_and_links_lead_nowhere(tmp_path: Path) -> None:
    deep = tmp_path / "volume"
    deep.mkdir()
    folder = os.open(deep, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=folder)
        folder, outer = os.open("d", os.O_RDONLY, dir_fd=folder), folder
        os.close(outer)
    os.close(folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    (deep / "out").symlink_to(outside)
    handover = volume_owner.Handover(NEW, [], OLD)
    handover.tree(deep)
    assert handover.changed == 1102
    assert outside.stat().st_uid == 0
    subprocess.run(["rm", "-rf", deep], check=True)


@as_root
@pytest.mark.parametrize(("owner", "ends"), [(OLD, "failed"), (NEW, "warnings")])
def test_a_run_stops_waiting_for_an_app_that_keeps_creating_folders(
    tmp_path: Path, owner: int, ends: str
) -> None:
    """An app can set an access control list on its volume that looks like ours."""
    volume, ahead = tmp_path / "volume", tmp_path / "ahead"
    volume.mkdir()
    os.chown(volume, owner, owner)
    ours = volume_owner.pack(volume_owner.shared(0o755, 5, [OLD]))
    os.setxattr(volume, volume_owner.ACCESS, ours)
    code = f"""
import itertools, os
os.chdir({str(volume)!r})
for count in itertools.count():
    for name in ("a", "b", "c"):
        os.makedirs(name, exist_ok=True)
    os.chdir("c")
    if count == 2000:
        open({str(ahead)!r}, "w").close()
"""
    hostile = subprocess.Popen([sys.executable, "-c", code])
    try:
        # On a busy machine, the run would catch up with an app that has just begun.
        while not ahead.exists():
            time.sleep(0.01)
        found = run_module("volume_owner", path=str(volume), owner=NEW, formerly=OLD, seconds=0.5)
    finally:
        hostile.kill()
        hostile.wait()
        subprocess.run(["rm", "-rf", volume], check=True)
    assert ends in found, found
    assert "keeps creating more" in str(found)


TABLE = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
60 27 254:0 /opt/a\\040b /opt/a\\040b rw,relatime shared:227 - ext4 /dev/vda rw
61 60 0:697 / /opt/a\\040b/shop/1/run rw,nosymfollow shared:229 - tmpfs flask-vps rw,size=64k
"""


def test_mounts_are_read() -> None:
    found = routes.mounts(TABLE)
    assert found["/"] == {}
    assert found["/opt/a b"] == {"shared": "227"}
    assert found["/opt/a b/shop/1/run"] == {"shared": "229"}


class Mounts:
    """Simulates a server's mounts."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = root / "proc"
        self.folder = root / "routes"
        self.folder.mkdir()
        self.lines: list[str] = []
        self.said: list[tuple[str, ...]] = []
        self.write("self", [])
        monkeypatch.setattr(routes, "run", self.run)

    def write(self, process: str, lines: list[str]) -> None:
        (self.proc / process).mkdir(parents=True, exist_ok=True)
        (self.proc / process / "mountinfo").write_text("".join(f"{line}\n" for line in lines))

    def run(self, *command: object) -> None:
        words = tuple(map(str, command))
        self.said.append(words)
        if words[:2] == ("mount", "--bind"):
            self.lines.append(f"60 27 254:0 / {words[-1]} rw - ext4 x rw")
        elif words[:2] == ("mount", "--make-shared"):
            self.lines = [
                line.replace(" rw - ext4", " rw shared:7 - ext4")
                if f" {words[-1]} " in line
                else line
                for line in self.lines
            ]
        elif words[0] == "umount":
            self.lines = [line for line in self.lines if f" {words[-1]} " not in line]
        elif words[1] == "-t":
            self.lines.append(f"61 60 0:1 / {words[-1]} rw shared:9 - tmpfs x rw")
        self.write("self", self.lines)

    def routes(self) -> "routes.Routes":
        return ROUTES(self.folder, self.proc)

    def options(self) -> list[str]:
        return [words[4] for words in self.said if words[1] == "-t"]


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounts:
    return Mounts(tmp_path, monkeypatch)


@as_root
def test_a_release_listens_in_a_small_folder_of_its_own(
    mounts: Mounts, capsys: pytest.CaptureFixture[str]
) -> None:
    mounts.routes().add("shop", "0123456789ab", "20000")
    place = mounts.folder / "shop/0123456789ab/run"
    (options,) = mounts.options()
    for option in ("size=64k", "nr_inodes=16", "nosymfollow", "nosuid", "noexec", "nodev"):
        assert option in options.split(",")
    assert "gid=20000" in options
    # The mount point itself is not writable while nothing is mounted on it.
    assert stat.filemode(place.stat().st_mode) == "drwx--x---"
    assert place.stat().st_uid == 0
    assert (mounts.folder / "shop/0123456789ab/0123456789ab").is_file()
    assert "mounted" in capsys.readouterr().out
    mounts.routes().add("shop", "0123456789ab", "20000")
    assert capsys.readouterr().out == ""


@as_root
def test_nginx_gets_to_a_socket_whatever_root_s_umask_is(
    mounts: Mounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [str(mounts.folder), "add", "shop", "a", "20000"]
    monkeypatch.setattr(sys, "argv", ["routes", *command])
    monkeypatch.setattr(routes, "Routes", lambda _: mounts.routes())
    before = os.umask(0o077)
    try:
        routes.main()
    finally:
        os.umask(before)
    places = {"shop": 0o755, "shop/a": 0o755, "shop/a/a": 0o644}
    found = {place: stat.S_IMODE((mounts.folder / place).stat().st_mode) for place in places}
    assert found == places


@as_root
def test_a_boot_brings_back_what_was_mounted(mounts: Mounts) -> None:
    mounts.routes().add("shop", "a", "20000")
    (mounts.folder / "shop/current").symlink_to("a")
    mounts.routes().adopt("blog", "b", "/sockets/blog/b.sock")
    mounts.lines.clear()
    mounts.write("self", [])
    mounts.said.clear()
    mounts.routes().open()
    assert [words[-1] for words in mounts.said if words[1] == "-t"] == [
        str(mounts.folder / "shop/a/run")
    ]
    assert mounts.said[1][1] == "--make-private"


@as_root
def test_folders_of_ended_releases_go(mounts: Mounts) -> None:
    for release in ("a", "b"):
        mounts.routes().add("shop", release, "20000")
    mounts.routes().add("blog", "c", "20001")
    (mounts.folder / "shop/current").symlink_to("b")
    mounts.routes().keep("shop", "b")
    assert {path.name for path in (mounts.folder / "shop").iterdir()} == {"b", "current"}
    mounts.routes().remove("shop")
    assert [path.name for path in mounts.folder.iterdir()] == ["blog"]
    mounts.routes().remove("shop")
    for name in ("..", "a/b", "-x", ""):
        with pytest.raises(SystemExit, match="is not a valid name"):
            mounts.routes().remove(name)


@as_root
def test_a_link_to_a_release_that_has_gone_goes_with_it(mounts: Mounts) -> None:
    """Such a link remains when an app changes its protocol; see `live_release`."""
    for release in ("a", "b"):
        mounts.routes().add("shop", release, "20000")
    (mounts.folder / "shop/current").symlink_to("a")
    (mounts.folder / "shop/current-http").symlink_to("b")
    mounts.routes().keep("shop", "b")
    assert {path.name for path in (mounts.folder / "shop").iterdir()} == {"b", "current-http"}


@as_root
def test_the_folder_may_lie_behind_a_link(mounts: Mounts, tmp_path: Path) -> None:
    """If /opt/flask-vps is a link to another disk, the kernel shows the path on that disk."""
    link = tmp_path / "opt"
    link.symlink_to(mounts.folder)
    for _ in range(2):
        routes.Routes(link, mounts.proc).add("shop", "a", "20000")
    assert [words[1] for words in mounts.said] == [
        "--bind",
        "--make-private",
        "--make-shared",
        "-t",
    ]
    assert {words[-1] for words in mounts.said} == {
        str(mounts.folder),
        str(mounts.folder / "shop/a/run"),
    }


@as_root
def test_an_adopted_release_is_found_at_its_old_socket(mounts: Mounts) -> None:
    mounts.routes().adopt("shop", "a", "/sockets/shop/a.sock")
    link = mounts.folder / "shop/a/run/app.sock"
    assert str(link.readlink()) == "/sockets/shop/a.sock"
    # A deploy moves it to the new layout, with its own folder.
    mounts.routes().add("shop", "a", "20000")
    assert not link.is_symlink()
    mounts.routes().adopt("shop", "a", "/sockets/shop/a.sock")
    assert not link.is_symlink()


def _answers(monkeypatch: pytest.MonkeyPatch, answers: dict[tuple[str, str], int]) -> None:
    def status_of(domain: str, _: int, path: str) -> int:
        if (domain, path) not in answers:
            raise release_served.UnreachableError(domain)
        return answers[domain, path]

    monkeypatch.setattr(release_served, "status_of", status_of)


OPTIONS = {
    "release": "0a",
    "domains": ["a.test", "b.test"],
    "port": 443,
    "path": "/",
    "in_maintenance": False,
}


@pytest.mark.parametrize(
    ("mark", "page", "maintenance", "said"),
    [
        (200, 200, False, ""),
        (200, 404, False, ""),
        (200, 502, False, "visitors of https://a.test/ get status 502"),
        (200, 0, False, "visitors of https://a.test/ get no answer"),
        # The app's page is served, but nginx routes to another release.
        (404, 200, False, "nginx does not route visitors of a.test to release 0a (status 404)"),
        (0, 200, False, "no answer"),
        (200, 503, True, ""),
        (404, 503, True, "does not route"),
    ],
)
def test_reports_what_visitors_get(
    monkeypatch: pytest.MonkeyPatch, mark: int, page: int, maintenance: bool, said: str
) -> None:
    _answers(monkeypatch, {("a.test", release_served.MARK + "0a"): mark, ("a.test", "/"): page})
    asked, problems = release_served.look({**OPTIONS, "in_maintenance": maintenance})
    # Names without a certificate are skipped.
    assert asked == ["a.test"]
    assert said in "".join(problems)
    assert bool(said) == bool(problems)


@as_root
def test_what_was_made_private_is_shared_again_and_mounted_once(mounts: Mounts) -> None:
    mounts.routes().add("shop", "a", "20000")
    mounts.lines = [line.replace(" shared:7", "") for line in mounts.lines]
    mounts.write("self", mounts.lines)
    mounts.said.clear()
    mounts.routes().open()
    assert [words[1] for words in mounts.said] == ["--make-private", "--make-shared"]
    mounts.said.clear()
    mounts.routes().open()
    assert mounts.said == []


def test_whether_nginx_follows_is_told(mounts: Mounts) -> None:
    mounts.routes().share()
    mounts.write("7", ["1 0 254:0 / /routes ro master:7 - ext4 x rw"])
    mounts.routes().followed("7")
    for other in (["1 0 254:0 / /routes ro master:8 - ext4 x rw"], []):
        mounts.write("7", other)
        with pytest.raises(SystemExit, match="does not see"):
            mounts.routes().followed("7")
    # A stopped container has process ID 0.
    with pytest.raises(SystemExit, match="does not see"):
        mounts.routes().followed("0")


def test_the_numbers_file_is_whole_or_old(tmp_path: Path) -> None:
    path = tmp_path / "uids.json"
    app_uid.write(path, {"shop": 20000})
    assert json.loads(path.read_text()) == {"shop": 20000}
    assert [file.name for file in tmp_path.iterdir()] == ["uids.json"]


def test_a_rollback_without_facts_closes_a_network_that_it_makes() -> None:
    """An operator may have pruned unused networks."""
    tasks = yaml.safe_load((ROOT / "roles/app/tasks/deploy/networks.yml").read_text())
    [close] = [task for task in tasks if "Close the server" in task["name"]]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701
    environment.tests["changed"] = lambda result: result["changed"]
    when = environment.compile_expression(close["when"], undefined_to_none=False)
    for facts, closed in (
        ({}, True),
        ({"service_mgr": "systemd"}, True),
        ({"service_mgr": "sysvinit"}, False),
    ):
        assert when(__app_network={"changed": True}, ansible_facts=facts) is closed
        assert when(__app_network={"changed": False}, ansible_facts=facts) is False
        # The network with the way out, too.
        networks = {"__app_network": {"changed": False}, "__app_way_out": {"changed": True}}
        assert when(**networks, ansible_facts=facts) is closed


@pytest.mark.parametrize("file", ["deploy/prepare.yml", "remove/kept.yml"])
def test_an_app_s_folder_is_closed_whether_it_comes_or_goes(file: str) -> None:
    text = (ROOT / "roles/app/tasks" / file).read_text()
    closed = [
        item
        for task in yaml.safe_load(text)
        for item in task.get("loop") or [task.get("ansible.builtin.file", {})]
        if isinstance(item, dict) and item.get("path") == "{{ __app_dir }}"
    ]
    assert [item["mode"] for item in closed] == ["0700"]
