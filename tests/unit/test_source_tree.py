"""Sources: their files, the targets of their links, and their maximum size."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.source_tree import SourceError, Tree, check_size, source_files
from conftest import PLUGINS, run_module
from git_source import fetch
from source_archive import archive
from source_paths import astray


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=n@n.dev")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")


def listed(root: Path, **options: bool) -> list[str]:
    base = root.resolve()
    return [file.relative_to(base).as_posix() for file in source_files(root, **options)]


def pack(source: Path, **options: Any) -> dict[str, Any]:
    """Run the module's code in this process, which is faster than to start the module."""
    defaults = {"folder": "", "commit": "", "digest": "", "needs": {}, "static": "", "dest": ""}
    limits = {"max_mb": 500, "max_files": 50000, "recipe": "", "dockerignore": False}
    limits |= {"python": "", "pythons": [], "python_default": ""}
    try:
        return archive({"path": source, "app": "shop", **defaults, **limits, **options})
    except SourceError as error:
        return {"failed": True, "msg": str(error)}


# -- what git says ---------------------------------------------------------------------------------


def test_the_ignore_files_of_parent_folders_count(tmp_path: Path) -> None:
    mono = tmp_path / "mono"
    write(mono, "backend/app.py", "backend/secrets.json", "backend/sub/secrets.json")
    write(mono, "backend/local.cfg", "backend/noise.log", "backend/out/x")
    (mono / ".gitignore").write_text("secrets.json\n/backend/out/\n")
    # Negative control: outside of git, the .gitignore of parent folders does not count.
    assert "secrets.json" in listed(mono / "backend")
    commit(mono)
    (mono / ".git/info/exclude").write_text("local.cfg\n")
    git(mono, "rm", "--quiet", "--cached", "backend/local.cfg", "backend/noise.log")
    patterns = tmp_path / "patterns"
    patterns.write_text("*.log\n")
    git(mono, "config", "core.excludesFile", str(patterns))
    assert listed(mono / "backend") == ["app.py"]
    # The same through a symbolic link.
    (tmp_path / "link").symlink_to(mono / "backend")
    assert listed(tmp_path / "link") == ["app.py"]


def test_what_git_tracks_is_there_although_a_pattern_names_it(tmp_path: Path) -> None:
    names = ["static/lib/jquery.js", "static/node_modules/a.js", "venv/tracked.py"]
    write(tmp_path, "app.py", "lib/x.so", *names)
    (tmp_path / ".gitignore").write_text("lib/\n")
    commit(tmp_path)
    git(tmp_path, "add", "--force", "static/lib/jquery.js")
    write(tmp_path, "node_modules/b.js", ".env", ".env.local", "new.py", "gone.py")
    git(tmp_path, "add", "--force", "gone.py", ".env")
    (tmp_path / "gone.py").unlink()
    # Secrets are left out even if git tracks them, and uncommitted files are included.
    assert listed(tmp_path) == [".gitignore", "app.py", "new.py", *sorted(names)]


def test_a_folder_and_its_commit_by_address_are_the_same(tmp_path: Path) -> None:
    mono = tmp_path / "mono"
    write(mono, "backend/app.py", "backend/requirements.txt", "backend/secrets.json", "other/x")
    write(mono, "backend/static/lib/jquery.js", "backend/node_modules/tracked.js", "backend/ä b.py")
    (mono / "backend/link").symlink_to("static/lib")
    (mono / ".gitignore").write_text("secrets.json\nlib/\n")
    commit(mono)
    git(mono, "add", "--force", "backend/static/lib/jquery.js")
    git(mono, "commit", "--quiet", "--message=two")
    dest = tmp_path / "dest"
    dest.mkdir()
    name = fetch(f"file://{mono}", "", dest)
    answers = [pack(mono / "backend"), pack(mono, folder="backend"), pack(dest, folder="backend")]
    assert [answer["files"] for answer in answers] == [6] * 3
    assert len({answer["digest"] for answer in answers}) == 1
    assert {answer["commit"] for answer in answers} == {name[:10]}
    assert pack(dest, folder="backend", commit="f" * 40)["commit"] == "f" * 10


def test_a_folder_that_git_ignores_goes_by_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, "app.py", ".local/app/app.py", ".local/app/x.log", ".local/app/.venv/y")
    (tmp_path / ".gitignore").write_text("/.local/\n")
    (tmp_path / ".local/app/.gitignore").write_text("*.log\n")
    commit(tmp_path)
    assert listed(tmp_path / ".local/app") == [".gitignore", "app.py"]
    # Once git tracks a file in it, the .gitignore of its parent applies.
    git(tmp_path, "add", "--force", ".local/app/app.py")
    assert listed(tmp_path / ".local/app") == ["app.py"]


@pytest.mark.parametrize("pattern", ["/backend/*", "backend/**", "*"])
def test_patterns_that_spare_a_few_files_do_not_ignore_the_folder(
    tmp_path: Path, pattern: str
) -> None:
    # Nothing is committed yet.
    write(tmp_path, "backend/app.py", "backend/secrets.json")
    (tmp_path / ".gitignore").write_text(f"{pattern}\n!*/\n!app.py\n")
    git(tmp_path, "init", "--quiet")
    assert listed(tmp_path / "backend") == ["app.py"]
    # If the patterns exclude all files, none are sent instead of all.
    (tmp_path / ".gitignore").write_text("/backend/*\n")
    assert listed(tmp_path / "backend") == []


def test_the_other_patterns_of_parent_folders_count_in_an_ignored_folder(tmp_path: Path) -> None:
    write(tmp_path, "apps/shop/app.py", "apps/shop/secrets.json", "apps/shop/out/x")
    write(tmp_path, "apps/shop/local.cfg", "apps/shop/keep/secrets.json")
    (tmp_path / ".gitignore").write_text("secrets.json\n/apps/\n!/apps/nothing\n")
    (tmp_path / "apps/.gitignore").write_text("/shop/out/\n")
    (tmp_path / "apps/shop/keep/.gitignore").write_text("!secrets.json\n")
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".git/info/exclude").write_text("local.cfg\n")
    assert listed(tmp_path / "apps/shop") == ["app.py", "keep/.gitignore", "keep/secrets.json"]


def test_a_work_tree_within_a_plain_folder_is_asked_as_well(tmp_path: Path) -> None:
    clone = tmp_path / "lib/clone"
    write(clone, "a.py", "secrets.json", "noise.log", "tracked.log")
    (clone / ".gitignore").write_text("*.log\n")
    commit(clone)
    git(clone, "add", "--force", "tracked.log")
    git(clone, "rm", "--quiet", "--cached", "secrets.json")
    (clone / ".git/info/exclude").write_text("secrets.json\n")
    write(tmp_path, "app.py", "junk/.git", "junk/secrets.json")
    (tmp_path / ".gitignore").write_text("junk/secrets.json\n")
    names = [f"lib/clone/{name}" for name in (".gitignore", "a.py", "tracked.log")]
    assert listed(tmp_path) == [".gitignore", "app.py", *names]


def test_no_pattern_brings_back_what_never_leaves(tmp_path: Path) -> None:
    write(tmp_path, "app.py", ".env", ".env.local", "sub/.env", "sub/.git", "x/.git/config")
    (tmp_path / ".gitignore").write_text("!.env*\n!.git\n!sub/.git\n")
    assert listed(tmp_path) == [".gitignore", "app.py"]


def test_a_file_behind_a_link_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere"
    write(secret, "key.pem")
    source = tmp_path / "source"
    write(source, "app.py", "conf/key.pem")
    commit(source)
    (source / "conf/key.pem").unlink()
    (source / "conf").rmdir()
    (source / "conf").symlink_to(secret)
    assert listed(source) == ["app.py", "conf"]
    # Patterns from outside the source are not read either.
    (source / ".dockerignore").symlink_to(secret / "key.pem")
    assert "app.py" in listed(source, dockerignore=True)


def test_names_that_no_text_can_hold_are_packed(tmp_path: Path) -> None:
    write(tmp_path, "line\nbreak.py", " space.py", "-dash.py", 'quote".py')
    (tmp_path / "byte\udcff.py").write_text("")
    plain = sorted(listed(tmp_path))
    commit(tmp_path)
    assert sorted(listed(tmp_path)) == plain
    assert pack(tmp_path)["files"] == 5


# -- links -----------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    write(folder, "app.py", "requirements.txt", "static/a.css", "static/sub/b.css", "assets/c.css")
    return folder


NEEDS = {"apps.shop.static": ["static"], "apps.shop.source": ["requirements.txt"]}
OUT = ["/etc", "/etc/passwd", "../../../other", "../../..", "../../../../../x", "../../../source/x"]


@pytest.mark.parametrize("target", OUT)
@pytest.mark.parametrize("name", ["static/link", "static/sub/link", "assets/deep"])
def test_refuses_static_links_out_of_the_source(source: Path, name: str, target: str) -> None:
    if name == "assets/deep":
        (source / "static/by").symlink_to("../assets")
    (source / name).symlink_to(target)
    text = pack(source, static="static", needs=NEEDS)["msg"]
    assert text.startswith("apps.shop.static: ")
    assert f"{name} is a link to {target}, which leaves the app's folder" in text


@pytest.mark.parametrize(
    ("static", "said"),
    [
        (".", "the app's whole folder"),
        ("static/..", "the app's whole folder"),
        ("whole", "the app's whole folder"),
        ("..", "leaves the app's folder"),
        ("/etc", "is not a path within"),
        ("pub", "pub is a link to /opt/flask-vps/apps/other"),
        ("way/sub", "way is a link to .., which leaves"),
        ("app.py", "is a file, not a folder"),
        ("round", "leads back to itself"),
        ("nowhere", "which does not exist"),
    ],
)
def test_refuses_a_static_folder_outside_the_source(source: Path, static: str, said: str) -> None:
    (source / "pub").symlink_to("/opt/flask-vps/apps/other")
    (source / "whole").symlink_to(".")
    (source / "way").symlink_to("..")
    (source / "round").symlink_to("round")
    (source / "nowhere").symlink_to("missing")
    answer = pack(source, static=static, needs={"apps.shop.static": [static]})
    assert answer["failed"]
    assert answer["msg"].startswith("apps.shop.static: ")
    assert said in answer["msg"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Dockerfile", {"needs": {"apps.shop.dockerfile": ["Dockerfile"]}}),
        ("docker/web", {"needs": {"apps.shop.dockerfile": ["docker/web"]}}),
        ("requirements.txt", {"needs": NEEDS}),
        ("pyproject.toml", {}),
        ("poetry.lock", {}),
        (".dockerignore", {}),
        ("docker/web.dockerignore", {}),
    ],
)
def test_refuses_links_out_of_the_source_at_other_paths(
    source: Path, name: str, options: dict[str, Any]
) -> None:
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to("../../../../etc/shadow")
    assert f"{name} is a link to ../../../../etc/shadow" in pack(source, **options)["msg"]


def test_a_folder_is_one_of_the_source(source: Path) -> None:
    (source / "out").symlink_to("/etc")
    (source / "in").symlink_to("assets")
    assert "out leads out of the source" in pack(source, folder="out")["msg"]
    assert ".. leads out of the source" in pack(source, folder="..")["msg"]
    assert "has no folder nope" in pack(source, folder="nope")["msg"]
    assert pack(source, folder="in")["files"] == 1


def test_other_links_stay_what_they_are(source: Path) -> None:
    # A link for the container, as in a virtual environment; neither we nor the server follow it.
    (source / "data").symlink_to("/data")
    (source / "static/ok.css").symlink_to("../assets/c.css")
    assert pack(source, static="static", needs=NEEDS)["files"] == 7


def test_publishes_links_among_static_files_as_files() -> None:
    tree = Tree(
        {
            "static/a.css": None,
            "static/b.css": "a.css",
            "static/c": "../assets",
            "static/d.css": "c/e.css",
            "assets/e.css": "f.css",
            "assets/f.css": None,
            "static/.hidden": None,
            "static/.well-known/x": None,
            "static/sub/.git/config": None,
        }
    )
    assert tree.published("static/") == {
        "a.css": "static/a.css",
        "b.css": "static/a.css",
        "c/e.css": "assets/f.css",
        "c/f.css": "assets/f.css",
        "d.css": "assets/f.css",
        ".well-known/x": "static/.well-known/x",
    }


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (".", "folder that contains it"),
        ("..", "folder that contains it"),
        ("../other", "folder that contains it"),
        ("../.env", "hidden files are not served"),
        ("../.git/config", "hidden files are not served"),
        ("loop", "leads back to itself"),
        ("missing", "which does not exist"),
    ],
)
def test_links_that_make_no_file_are_named(target: str, said: str) -> None:
    links = {"static/loop": target, "app.py": None, ".env": None, ".git/config": None}
    links["other/back"] = "../static"
    with pytest.raises(SourceError, match=said):
        Tree(links).published("static")


def test_counts_the_files_to_which_links_lead() -> None:
    links: dict[str, str | None] = {"static/a/0": None}
    for level in range(20):
        links |= {f"f{level}/{n}": f"../f{level + 1}" for n in "ab"}
    links["f20/file"] = None
    links["static/bomb"] = "../f0"
    with pytest.raises(SourceError, match="app_source_max_files is 1000"):
        Tree(links).published("static", most=1000)
    # Folders count as well, even if none of their files is served.
    del links["f20/file"], links["static/a/0"]
    links["f20/.hidden"] = None
    with pytest.raises(SourceError, match="app_source_max_files is 1000"):
        Tree(links).published("static", most=1000)


@pytest.mark.parametrize("depth", [250, 1500])
def test_folders_are_nested_only_so_deep(tmp_path: Path, depth: int) -> None:
    # Step by step, because the whole path is longer than the system allows.
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("a", dir_fd=folder)
        below = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    try:
        assert "nested more than 200 deep" in pack(tmp_path)["msg"]
        git(tmp_path, "init", "--quiet")
        assert "nested more than 200 deep" in pack(tmp_path)["msg"]
    finally:
        # shutil.rmtree fails on a tree this deep.
        subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)


# -- on the server ---------------------------------------------------------------------------------


def publish(source: Path, dest: Path, **options: Any) -> dict[str, Any]:
    names = {"app": "shop", "source": str(source), "dest": str(dest), "folder": "static"}
    return run_module("static_files", **names, **options)


def test_static_files_are_published_whole_plain_and_once(source: Path, tmp_path: Path) -> None:
    (source / "static/link.css").symlink_to("sub/b.css")
    (source / "static/folder").symlink_to("../assets")
    (source / "static/a.css").chmod(0o400)
    (source / "static/sub").chmod(0o700)
    write(source, "static/.htpasswd")
    dest = tmp_path / "web/0123"
    dest.parent.mkdir()
    write(dest.parent, ".0123.part/left")
    assert publish(source, dest)["changed"]
    names = {file.relative_to(dest).as_posix(): file for file in dest.rglob("*")}
    files = ["a.css", "folder/c.css", "link.css", "sub/b.css"]
    assert sorted(names) == sorted([*files, "folder", "sub"])
    assert {oct(names[name].lstat().st_mode) for name in files} == {"0o100644"}
    assert {oct(path.lstat().st_mode) for path in (dest, names["sub"])} == {"0o40755"}
    assert [path.name for path in dest.parent.iterdir()] == ["0123"]
    assert not publish(source, dest)["changed"]
    # Files of older versions are removed.
    names["link.css"].unlink()
    names["link.css"].symlink_to("/etc/passwd")
    write(dest, "leaked.py")
    assert publish(source, dest)["changed"]
    assert names["link.css"].read_text() == "static/sub/b.css"
    assert not (dest / "leaked.py").exists()
    (dest / "sub/conf").symlink_to("/etc")
    assert publish(source, dest)["changed"]
    assert not (dest / "sub/conf").is_symlink()


def test_the_server_refuses_static_links_out_of_the_source(source: Path, tmp_path: Path) -> None:
    (source / "static/x").symlink_to("/etc/passwd")
    answer = publish(source, tmp_path / "web")
    assert answer["msg"].startswith("apps.shop.static: static/x is a link to /etc/passwd")
    assert not (tmp_path / "web").exists()
    (source / "static/x").unlink()
    assert "app_source_max_files is 1" in publish(source, tmp_path / "web", max_files=1)["msg"]


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "docker/web.dockerignore"])
def test_a_build_on_the_server_reads_nothing_outside(source: Path, name: str) -> None:
    write(source, "Dockerfile")
    paths = {"apps.shop.dockerfile": "Dockerfile"}
    assert astray(source, paths) == []
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to("/etc/shadow")
    [text] = astray(source, paths)
    assert f"{name} is a link to /etc/shadow, which leaves" in text


# -- how much --------------------------------------------------------------------------------------


def test_refuses_a_source_that_is_too_large() -> None:
    sizes = {f"f{n}.bin": n << 20 for n in range(1, 9)}
    check_size(sizes, 36, 8)
    with pytest.raises(SourceError) as error:
        check_size(sizes, 35, 8)
    text = str(error.value)
    assert "has 36 MB, but app_source_max_mb is 35" in text
    assert "f8.bin (8 MB), f7.bin (7 MB), f6.bin (6 MB), f5.bin (5 MB), f4.bin (4 MB)." in text
    assert "f3.bin" not in text
    with pytest.raises(SourceError, match="8 files, but app_source_max_files is 7"):
        check_size(sizes, 36, 7)


def test_a_large_file_is_refused_or_packed_without_being_in_memory(tmp_path: Path) -> None:
    size = 300 << 20
    with (tmp_path / "dump.sql").open("wb") as file:
        file.truncate(size)
    assert "dump.sql (300 MB)" in pack(tmp_path, max_mb=200)["msg"]
    code = (
        "import resource, sys, ansible.module_utils\n"
        "from pathlib import Path\n"
        f"ansible.module_utils.__path__.append({str(PLUGINS / 'module_utils')!r})\n"
        f"sys.path.append({str(PLUGINS / 'modules')!r})\n"
        "import source_archive as s\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"files = s.named(s.source_files(Path({str(tmp_path)!r})), Path({str(tmp_path)!r}))\n"
        f"s.write_archive(files, Path({str(tmp_path / 'archive')!r}))\n"
        "s.pack(files, s.Digest())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 << 10  # kB


def test_a_source_that_changes_meanwhile_is_not_released(source: Path, tmp_path: Path) -> None:
    before = pack(source)["digest"]
    dest = tmp_path / "archive.tar.gz"
    assert pack(source, digest=before, dest=str(dest))["changed"]
    assert not pack(source, digest=before, dest=str(dest))["changed"]
    (source / "app.py").write_text("other")
    answer = pack(source, digest=before, dest=str(dest))
    assert "changed while it was being deployed" in answer["msg"]
