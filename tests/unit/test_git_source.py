"""Sources from a git address, and the messages when cloning fails."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import run_module
from git_source import GitError, explain, fetch


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=n@n.dev")
        subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    (folder / "app.py").write_text("one")
    git("add", ".")
    git("commit", "--quiet", "--message=one")
    git("tag", "--annotate", "--message=one", "v1")
    (folder / "app.py").write_text("two")
    git("commit", "--quiet", "--all", "--message=two")
    return folder


def test_branches_tags_and_commits_are_checked_out(repository: Path, tmp_path: Path) -> None:
    url, dest = f"file://{repository}", tmp_path / "dest"
    dest.mkdir()
    newest = fetch(url, "", dest)
    assert (dest / "app.py").read_text() == "two"
    (dest / "left.pyc").write_text("")
    tagged = fetch(url, "v1", dest)
    assert (dest / "app.py").read_text() == "one"
    assert not (dest / "left.pyc").exists()
    assert fetch(url, "main", dest) == newest
    assert fetch(url, tagged, dest) == tagged
    assert fetch(url, tagged[:8], dest) == tagged


def said(url: str, version: str, dest: Path) -> str:
    dest.mkdir()
    with pytest.raises(GitError) as error:
        fetch(url, version, dest)
    return explain("shop", url, str(error.value))


def test_a_short_commit_does_not_download_the_history(repository: Path, tmp_path: Path) -> None:
    settings = ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant")
    for name in settings:
        subprocess.run(["git", "-C", repository, "config", name, "true"], check=True)
    first = subprocess.run(
        ["git", "-C", repository, "rev-parse", "v1^{commit}"], capture_output=True, text=True
    ).stdout.strip()
    dest = tmp_path / "dest"
    dest.mkdir()
    assert fetch(f"file://{repository}", first[:9], dest) == first
    assert (dest / "app.py").read_text() == "one"
    assert (dest / ".git/shallow").exists()
    history = ["git", "-C", dest, "rev-list", "--all", "--count"]
    assert subprocess.run(history, capture_output=True, text=True).stdout.strip() in ("0", "1")


needs_lfs = pytest.mark.skipif(not shutil.which("git-lfs"), reason="git-lfs is not installed")


@needs_lfs
def test_large_files_are_fetched(tmp_path: Path) -> None:
    origin, dest = tmp_path / "origin", tmp_path / "dest"
    origin.mkdir()
    dest.mkdir()
    who = ("-c", "user.name=n", "-c", "user.email=n@n.dev")
    for command in (
        ("init", "--quiet", "--initial-branch=main"),
        ("lfs", "install", "--local"),
        ("lfs", "track", "*.png"),
    ):
        subprocess.run(["git", "-C", origin, *who, *command], check=True, capture_output=True)
    (origin / "logo.png").write_text("a large picture")
    for command in (("add", "."), ("commit", "--quiet", "--message=one")):
        subprocess.run(["git", "-C", origin, *who, *command], check=True, capture_output=True)
    for _ in range(2):
        fetch(f"file://{origin}", "", dest)
        assert (dest / "logo.png").read_text() == "a large picture"


def test_a_pointer_is_refused_by_name(repository: Path, tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"
    (repository / "static").mkdir()
    (repository / "static/logo.png").write_text(text)
    said = run_module("source_archive", app="shop", path=str(repository))
    assert "apps.shop.source: static/logo.png came as a Git LFS pointer" in said["msg"]
    assert "`git lfs pull`" in said["msg"]
    said = run_module("source_archive", app="shop", path=str(repository), commit="0123456789")
    assert "sudo apt-get install git-lfs" in said["msg"]
    # Negative control: a text about such files is none.
    (repository / "static/logo.png").write_text(f"See:\n{text}")
    assert run_module("source_archive", app="shop", path=str(repository))["files"] == 2


@pytest.mark.parametrize("version", ["v9", "abcdef1234", "--upload-pack=x"])
def test_a_version_that_is_not_there(repository: Path, tmp_path: Path, version: str) -> None:
    text = said(f"file://{repository}", version, tmp_path / "dest")
    assert f"no branch, tag or commit '{version}'" in text
    assert "Correct `version`" in text


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("file:///nowhere/at/all.git", "Correct `source`"),
        ("ssh://git@127.0.0.1:9/shop.git", "does not reach the host"),
        ("https://hunter2@127.0.0.1:9/shop.git", "does not reach the host"),
    ],
)
def test_an_address_that_does_not_answer(tmp_path: Path, url: str, advice: str) -> None:
    text = said(url, "", tmp_path / "dest")
    assert advice in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("git@h: Permission denied (publickey).", "vault_deploy_keys.shop"),
        ("Load key '/tmp/key': error in libcrypto", "vault_deploy_keys.shop"),
        ("fatal: could not read Username for 'https://h'", "vault_deploy_keys.shop"),
        ("Host key verification failed.", "ssh-keygen -R"),
        ("ERROR: Repository not found.", "Correct `source`"),
        ("git-lfs filter-process: 1: git-lfs: not found", "apt-get install git-lfs"),
    ],
)
def test_git_s_own_words_are_explained(error: str, advice: str) -> None:
    assert advice in explain("shop", "git@h:shop.git", error)
