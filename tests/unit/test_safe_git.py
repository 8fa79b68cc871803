"""git runs no program that a source names, whatever the source contains."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.safe_git import GitError, looks_bare, run, work_tree
from ansible.module_utils.source_tree import SourceError, source_files
from conftest import run_module
from git_source import fetch

ROOT = Path(__file__).parents[2]
MARK = "was-run"


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=n@n.dev")
    done = subprocess.run(
        ["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "app.py").write_text("one\n")
    (folder / "requirements.txt").write_text("flask\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that leaves a mark when it is run."""
    file = tmp_path / "program"
    file.write_text(f"#!/bin/sh\ntouch {tmp_path / MARK}\ncat\n")
    file.chmod(0o755)
    return file


def hostile_config(program: Path) -> str:
    return "".join(
        f"[{section}]\n\t{name} = {value}\n"
        for section, name, value in (
            ("core", "repositoryformatversion", "0"),
            ("core", "bare", "false"),
            ("core", "fsmonitor", program),
            ("core", "sshCommand", program),
            ("core", "hooksPath", program.parent),
            ("core", "pager", program),
            ("diff", "external", program),
            ('filter "evil"', "clean", program),
            ('filter "evil"', "smudge", program),
            ('filter "evil"', "process", program),
            ("core", "worktree", "/"),
            ("include", "path", "../more"),
        )
    )


def pretend(folder: Path, program: Path) -> Path:
    """Make a folder of ordinary files that git takes for a repository."""
    made = repository(folder.with_name(f"{folder.name}-origin"))
    for name in ("HEAD", "index", "objects", "refs"):
        source, target = made / ".git" / name, folder / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (folder / "config").write_text(hostile_config(program).replace("worktree = /", "worktree = ."))
    (folder / "app.py").write_text("two\n")
    (folder / "requirements.txt").write_text("flask\n")
    return folder


def pack(source: Path, **options: str) -> dict:
    return run_module("source_archive", path=str(source), app="shop", **options)


def test_a_folder_that_looks_like_a_repository_is_refused(tmp_path: Path, program: Path) -> None:
    folder = pretend(tmp_path / "source", program)
    # Negative control: earlier versions ran this.
    subprocess.run(["git", "-C", folder, "status"], capture_output=True, check=False)
    assert (tmp_path / MARK).exists()
    (tmp_path / MARK).unlink()
    answer = pack(folder)
    assert f"{folder} looks like a git repository" in answer["msg"]
    assert not (tmp_path / MARK).exists()


def test_refuses_a_nested_folder_that_looks_like_a_repository(
    tmp_path: Path, program: Path
) -> None:
    plain = tmp_path / "plain"
    pretend(plain / "docs/deep", program)
    (plain / "requirements.txt").write_text("")
    assert "docs/deep looks like a git repository" in pack(plain)["msg"]
    inner = repository(tmp_path / "committed")
    pretend(inner / "app", program)
    shutil.rmtree(inner / "app-origin")
    for empty in ("app/objects/info", "app/refs/tags"):
        (inner / empty / "keep").write_text("")
    git(inner, "-c", "core.fsmonitor=false", "add", ".")
    git(inner, "commit", "--quiet", "--message=two")
    dest = tmp_path / "dest"
    dest.mkdir()
    (tmp_path / MARK).unlink(missing_ok=True)
    fetch(f"file://{inner}", "", dest)
    assert (dest / "app/config").exists()
    for options in ({}, {"folder": "app"}):
        assert "app looks like a git repository" in pack(dest, **options)["msg"]
    assert not (tmp_path / MARK).exists()


def test_one_whose_parts_are_elsewhere_or_no_folders_counts_too(tmp_path: Path) -> None:
    (tmp_path / "HEAD").symlink_to("nowhere")
    assert not looks_bare(tmp_path)
    for name in ("objects", "refs"):
        (tmp_path / name).write_text("")
    assert looks_bare(tmp_path)
    (tmp_path / "refs").unlink()
    assert not looks_bare(tmp_path)
    (tmp_path / "commondir").write_text("elsewhere")
    assert looks_bare(tmp_path)


def test_a_repository_s_own_settings_run_nothing(tmp_path: Path, program: Path) -> None:
    folder = repository(tmp_path / "source")
    (folder / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (folder / "app.py").write_text("changed\n")
    (folder / ".git/config").write_text(
        hostile_config(program).replace("worktree = /", "worktree = ..")
    )
    hook = folder / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    shutil.copy(program, hook)
    subprocess.run(["git", "-C", folder, "status"], capture_output=True, check=False)
    assert (tmp_path / MARK).exists()  # the negative control
    (tmp_path / MARK).unlink()
    answer = pack(folder)
    assert answer["files"] == 3
    assert answer["commit"] == git_head(folder)[:10] + "-dirty"
    assert not (tmp_path / MARK).exists()


def git_head(folder: Path) -> str:
    return (folder / ".git/refs/heads/main").read_text().strip()


def test_nor_do_those_of_a_submodule_or_of_a_clone_within(tmp_path: Path, program: Path) -> None:
    folder = repository(tmp_path / "source")
    for name in ("module", "clone"):
        repository(folder / name)
        if name == "module":
            git(folder, "add", name)
            git(folder, "commit", "--quiet", "--message=two")
        (folder / name / ".git/config").write_text(hostile_config(program))
        (folder / name / ".gitattributes").write_text("* filter=evil\n")
        (folder / name / "app.py").write_text("changed\n")
    answer = pack(folder)
    # app.py and requirements.txt; each of the two nested repositories also has .gitattributes.
    assert answer["files"] == 2 + 3 + 3
    assert not (tmp_path / MARK).exists()


def test_a_git_file_may_point_elsewhere(tmp_path: Path, program: Path) -> None:
    evil = repository(tmp_path / "evil")
    (evil / ".git/config").write_text(hostile_config(program))
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / ".git").write_text(f"gitdir: {evil}/.git\n")
    (folder / "app.py").write_text("two\n")
    assert pack(folder)["files"] == 1
    assert not (tmp_path / MARK).exists()


def test_variables_of_the_shell_name_no_repository(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = repository(tmp_path / "evil")
    (evil / ".git/config").write_text(hostile_config(program))
    monkeypatch.setenv("GIT_DIR", str(evil / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(evil / ".git/index"))
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.py").write_text("")
    assert [file.name for file in source_files(folder)] == ["a.py"]
    # The operator's own configuration is kept.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "operator")
    said = run(Path(os.devnull), "config", "user.name", cwd=tmp_path)
    assert said == "operator\n"


def test_hooks_of_a_checkout_do_not_run(tmp_path: Path, program: Path) -> None:
    origin, dest = repository(tmp_path / "origin"), tmp_path / "dest"
    dest.mkdir()
    fetch(f"file://{origin}", "", dest)
    shutil.copy(program, dest / ".git/hooks/post-checkout")
    (origin / "app.py").write_text("two\n")
    git(origin, "commit", "--quiet", "--all", "--message=two")
    fetch(f"file://{origin}", "", dest)
    assert (dest / "app.py").read_text() == "two\n"
    assert not (tmp_path / MARK).exists()


def test_a_checkout_without_its_repository_is_made_anew(tmp_path: Path, program: Path) -> None:
    origin, dest = repository(tmp_path / "origin"), tmp_path / "dest"
    pretend(dest, program)
    (dest / ".git").mkdir()  # a run that was killed
    (tmp_path / MARK).unlink(missing_ok=True)
    fetch(f"file://{origin}", "", dest)
    assert not (dest / "config").exists()
    assert sorted(file.name for file in source_files(dest)) == ["app.py", "requirements.txt"]
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("name", ["index", "shallow", "config", "HEAD"])
def test_locks_that_a_killed_run_has_left_stop_nobody(tmp_path: Path, name: str) -> None:
    origin, dest = repository(tmp_path / "origin"), tmp_path / "dest"
    dest.mkdir()
    fetch(f"file://{origin}", "", dest)
    (dest / f".git/{name}.lock").write_text("")
    (origin / "app.py").write_text("two\n")
    git(origin, "commit", "--quiet", "--all", "--message=two")
    fetch(f"file://{origin}", "", dest)
    assert (dest / "app.py").read_text() == "two\n"


@pytest.mark.parametrize("url", ["ext::sh -c touch% {mark}", "file://{folder}/inner"])
def test_a_submodule_s_address_runs_nothing_and_is_no_folder_here(tmp_path: Path, url: str) -> None:
    inner = repository(tmp_path / "inner")
    origin = repository(tmp_path / "origin")
    git(origin, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "m")
    text = (origin / ".gitmodules").read_text()
    address = url.format(mark=tmp_path / MARK, folder=tmp_path)
    (origin / ".gitmodules").write_text(text.replace(str(inner), address))
    git(origin, "commit", "--quiet", "--all", "--message=two")
    dest = tmp_path / "dest"
    dest.mkdir()
    with pytest.raises(GitError, match="not allowed"):
        fetch(f"file://{origin}", "", dest)
    assert not (tmp_path / MARK).exists()


def test_submodules_of_an_address_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = repository(tmp_path / "inner")
    origin = repository(tmp_path / "origin")
    git(origin, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "m")
    git(origin, "commit", "--quiet", "--all", "--message=two")
    # The only transport that works without a server.
    monkeypatch.setitem(run.__globals__["OPTIONS"], "protocol.file.allow", "always")
    dest = tmp_path / "dest"
    dest.mkdir()
    fetch(f"file://{origin}", "", dest)
    names = [file.relative_to(dest).as_posix() for file in source_files(dest)]
    assert names == [".gitmodules", "app.py", "m/app.py", "m/requirements.txt", "requirements.txt"]
    # A clone without its submodules differs from one with them.
    shutil.rmtree(dest / "m")
    (dest / "m").mkdir()
    with pytest.raises(SourceError, match=r"submodule m .* is not checked out"):
        source_files(dest)


def test_a_submodule_that_has_moved_is_fetched_from_its_new_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.__globals__["OPTIONS"], "protocol.file.allow", "always")
    allow = ("-c", "protocol.file.allow=always")
    origin, moved = repository(tmp_path / "origin"), repository(tmp_path / "moved")
    (moved / "new.py").write_text("")
    git(moved, "add", ".")
    git(moved, "commit", "--quiet", "--message=two")
    git(origin, *allow, "submodule", "--quiet", "add", str(repository(tmp_path / "inner")), "m")
    git(origin, "commit", "--quiet", "--all", "--message=two")
    dest = tmp_path / "dest"
    dest.mkdir()
    fetch(f"file://{origin}", "", dest)
    git(origin, "config", "--file", ".gitmodules", "submodule.m.url", str(moved))
    git(origin / "m", *allow, "fetch", "--quiet", str(moved), "main")
    git(origin / "m", "checkout", "--quiet", "FETCH_HEAD")
    git(origin, "commit", "--quiet", "--all", "--message=three")
    fetch(f"file://{origin}", "", dest)
    assert (dest / "m/new.py").exists()


def test_a_broken_commit_does_not_spoil_the_fetch_of_the_next_one(tmp_path: Path) -> None:
    origin, dest = repository(tmp_path / "origin"), tmp_path / "dest"
    dest.mkdir()
    (origin / ".gitmodules").write_text("what is this\n")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "--message=two")
    with pytest.raises(GitError, match=r"bad config line 1 in file .*\.gitmodules"):
        fetch(f"file://{origin}", "", dest)
    git(origin, "rm", "--quiet", "--force", ".gitmodules")
    git(origin, "commit", "--quiet", "--message=three")
    fetch(f"file://{origin}", "", dest)
    assert [file.name for file in source_files(dest)] == ["app.py", "requirements.txt"]


def test_commits_are_named_without_git(tmp_path: Path) -> None:
    folder = repository(tmp_path / "source")
    tree = work_tree(folder)
    head = git(folder, "rev-parse", "HEAD").strip()
    assert tree.commit(folder) == head[:10]
    git(folder, "pack-refs", "--all")
    assert tree.commit(folder) == head[:10]
    git(folder, "checkout", "--quiet", "--detach")
    assert tree.commit(folder) == head[:10]
    (folder / "app.py").write_text("changed\n")
    assert tree.commit(folder) == f"{head[:10]}-dirty"
    other = tmp_path / "worktree"
    git(folder, "worktree", "add", "--quiet", str(other))
    assert work_tree(other).commit(other) == head[:10]
    assert [file.name for file in source_files(other)] == ["app.py", "requirements.txt"]


@pytest.mark.parametrize("name", ["[id]", ":(top)x", "*", ":!app"])
def test_names_of_folders_are_no_patterns(tmp_path: Path, name: str) -> None:
    folder = repository(tmp_path / "source")
    (folder / name).mkdir()
    (folder / name / "a.py").write_text("one\n")
    git(folder, "--literal-pathspecs", "add", name)
    git(folder, "commit", "--quiet", "--message=two")
    tree = work_tree(folder)
    (folder / "app.py").write_text("changed\n")
    assert not tree.commit(folder / name).endswith("-dirty")
    (folder / name / "a.py").write_text("changed\n")
    assert tree.commit(folder / name).endswith("-dirty")
    assert [file.name for file in source_files(folder / name)] == ["a.py"]


@pytest.mark.parametrize("name", ["[id]", ":(top)x"])
def test_such_a_folder_may_be_ignored(tmp_path: Path, name: str) -> None:
    folder = repository(tmp_path / "source")
    (folder / name).mkdir()
    (folder / name / "a.py").write_text("one\n")
    (folder / ".gitignore").write_text(f"/{name.replace('[', chr(92) + '[')}\n")
    assert [file.name for file in source_files(folder / name)] == ["a.py"]


def test_no_other_place_calls_git() -> None:
    files = [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "scripts").glob("*")]
    calls = [f for f in files if f.is_file() and '"git"' in f.read_text(errors="replace")]
    assert [file.name for file in calls] == ["safe_git.py"]
    asks = re.compile(
        r"ansible\.builtin\.git\b|\bgit (-[cC]|clone|describe|fetch|log|rev-parse|status) "
    )
    yaml = [*(ROOT / "roles").glob("*/*/*.yml"), *(ROOT / "playbooks").rglob("*.yml")]
    tasks = [file for file in yaml if asks.search(file.read_text())]
    assert tasks == []
    # On the server, a build would run git in the source as root.
    text = (ROOT / "roles/app/tasks/deploy/build.yml").read_text()
    builds = re.findall(r"docker_image_build:\n|argv: .*__app_build_command", text)
    assert len(builds) == text.count("register: __app_build\n") == 2
    assert text.count('\n  environment: {BUILDX_GIT_INFO: "false"}\n  block:\n') == 1
