"""Sources from a git address, and the messages when cloning fails."""

import subprocess
from pathlib import Path

import pytest
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
    ],
)
def test_git_s_own_words_are_explained(error: str, advice: str) -> None:
    assert advice in explain("shop", "git@h:shop.git", error)
