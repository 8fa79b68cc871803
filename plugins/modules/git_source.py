#!/usr/bin/python
"""Ansible module: check out one version of a git repository on the controller."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.safe_git import GitError, looks_bare, run
from ansible.module_utils.ssh_keys import write

# Runs git in a checkout with these arguments, and returns its output.
Git = Callable[..., str]

DOCUMENTATION = r"""
module: git_source
short_description: Check out one version of a git repository
description:
  - Checks out a branch, tag or commit with its submodules, and removes everything else from the
    folder.
  - The folder is a cache on the controller, so the task is never reported as changed.
options:
  url:
    description: Address of the repository.
    type: str
    required: true
  version:
    description: Branch, tag or commit. An empty string means the HEAD of the remote.
    type: str
    default: ""
  dest:
    description: Folder for the checkout. Other files in it are removed.
    type: path
    required: true
  keys:
    description:
      - Private SSH keys by the address of their repository (C(host/path)). The key C(source) is for
        all others.
    type: dict
    default: {}
  app:
    description: The app's name, for messages.
    type: str
    required: true
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Check out the app
  git_source:
    app: shop
    url: https://git.example.org/shop.git
    version: v1.2
    dest: /tmp/shop
  delegate_to: localhost
"""

RETURN = r"""
commit:
  description: The commit that is checked out.
  type: str
  returned: always
"""

# Errors of git, and advice for the operator.
ADVICE = {
    r"Permission denied \(publickey|Load key|error in libcrypto|invalid format": (
        "the key was refused. Put the private part of a deploy key of that repository into "
        "vault_deploy_keys.{app}, including its first and last line; for a submodule, under its "
        "address (HOST/PATH), beside `source` for the app's own"
    ),
    r"could not read Username|Authentication failed|terminal prompts disabled": (
        "the repository does not exist or is private. For a private one use its SSH address "
        "(git@host:path) as source, with a deploy key in vault_deploy_keys.{app}"
    ),
    r"Host key verification failed|REMOTE HOST IDENTIFICATION": (
        "the host's key is not the one in this machine's known_hosts. If the change is known and "
        "expected, remove the old key with ssh-keygen -R HOST"
    ),
    (
        r"Could not resolve host|Name or service not known|Connection (refused|timed)|unreachable"
        r"|Failed to connect|Couldn't connect"
    ): ("this machine does not reach the host. Check the address and the network"),
    r"git-lfs|git: 'lfs'": (
        "its large files are in Git LFS, which failed or is missing on this machine. Install it "
        "(sudo apt-get install git-lfs)"
    ),
    r"not found|does not appear to be a git repository|does not exist|not exist": (
        "there is no such repository, or the key has no access. Correct `source` in the app's entry"
    ),
    r"transport '\w+' not allowed": (
        "the address of the source or of a submodule is not allowed. Submodules must come "
        "from https://, ssh:// or git@host:path; correct .gitmodules in the repository"
    ),
    r"certificate problem|server certificate": (
        "the host's certificate is not trusted on this machine. Set git's http.sslCAInfo to your CA"
    ),
}


@contextmanager
def _environment(keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
    options = ["-oBatchMode=yes", "-oStrictHostKeyChecking=accept-new", "-oConnectTimeout=20"]
    with tempfile.TemporaryDirectory() as folder:
        # Only this user may open the folder.
        yield {
            "GIT_SSH_COMMAND": write(Path(folder), keys, options),
            "GIT_SSH_VARIANT": "ssh",
        }


def resolve(listing: str, version: str) -> str:
    """
    Find the commit that a version means.

    Parameters
    ----------
    listing : str
        What ``git ls-remote`` printed.
    version : str
        Branch, tag or commit; empty for the remote's HEAD.

    Returns
    -------
    str
        The commit; or `version` itself if it looks like a commit without a branch or tag.

    Raises
    ------
    GitError
        If the remote has no such version.
    """
    refs = dict(reversed(line.split("\t", 1)) for line in listing.splitlines() if "\t" in line)
    # An annotated tag is an object of its own; ^{} names the commit behind it.
    names = [f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}", version]
    for name in names if version else ["HEAD"]:
        if name in refs:
            return refs[name]
    if re.fullmatch(r"[0-9a-f]{7,40}", version):
        return version
    if not version:
        raise GitError("the remote's HEAD does not name a branch: set `version` in the app's entry")
    known = sorted(
        {name.split("/", 2)[2].removesuffix("^{}") for name in refs if name.count("/") > 1}
    )
    raise GitError(
        f"it has no branch, tag or commit {version!r}, but {', '.join(known[:15]) or 'nothing'}. "
        "Correct `version` in the app's entry"
    )


def fetch(url: str, version: str, dest: Path, keys: Mapping[str, str] | None = None) -> str:
    """
    Check out one version.

    Parameters
    ----------
    url, version : str
        As the module's options of the same names.
    dest : pathlib.Path
        Folder for the checkout.
    keys : mapping of str to str, optional
        As the module's option of the same name.

    Returns
    -------
    str
        The commit that is checked out.

    Raises
    ------
    GitError
        If git fails; the text is git's own.
    """
    with _environment(keys or {}) as env:

        def git(*arguments: str) -> str:
            return run(dest / ".git", *arguments, cwd=dest, env=env)

        # A killed run may leave an incomplete repository.
        if not looks_bare(dest / ".git"):
            _remove(dest / ".git")
            git("init", "--quiet")
        # This run has the cache to itself, so these locks are from a killed run.
        for lock in (dest / ".git").rglob("*.lock"):
            lock.unlink()
        commit = resolve(git("ls-remote", "--", url), version)
        try:
            commit = git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()
        except GitError:
            commit = _download(git, url, commit)
        # Submodules' addresses may be relative to the repository's own.
        git("config", "remote.origin.url", url)
        git("checkout", "--quiet", "--force", "--detach", commit)
        git("clean", "--quiet", "-ffdx")
        if (dest / ".gitmodules").exists():
            # The addresses from an earlier fetch may be out of date.
            git("submodule", "sync", "--quiet", "--recursive")
            _update_submodules(git)
        _fetch_large(git, dest)
        return commit


def _update_submodules(git: Git) -> None:
    command = ("submodule", "update", "--quiet", "--init", "--recursive", "--force")
    try:
        git(*command, "--depth=1", "--recommend-shallow")
    except GitError:
        # Not every host serves a commit by its name.
        git(*command)


def _fetch_large(git: Git, dest: Path) -> None:
    """Replace pointers of Git LFS by the files that they stand for, if git-lfs is here."""
    if not shutil.which("git-lfs") or not _uses_lfs(dest):
        return
    # Set for these calls only: a checkout never runs a filter.
    git("lfs", "fetch", "origin", "HEAD")
    git("lfs", "checkout")
    if (dest / ".gitmodules").exists():
        git("submodule", "--quiet", "foreach", "--recursive", "git lfs fetch && git lfs checkout")


def _uses_lfs(dest: Path) -> bool:
    files = (path for path in dest.rglob(".gitattributes") if not path.is_symlink())
    return any("filter=lfs" in path.read_text(errors="replace") for path in files)


def _full_name(git: Git, url: str, commit: str) -> str:
    """
    Find the commit that an abbreviation means, without the files of all commits.

    Parameters
    ----------
    git : callable
        Runs git in the checkout.
    url, commit : str
        The repository, and the abbreviation.

    Returns
    -------
    str
        All digits; empty if the history does not tell them, or they were given.
    """
    if len(commit) == 40:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            git("clone", "--quiet", "--bare", "--filter=tree:0", url, f"{folder}/history")
            listed = git("--git-dir", f"{folder}/history", "rev-list", "--all")
        except GitError:
            return ""
    found = [name for name in listed.split() if name.startswith(commit)]
    return found[0] if len(found) == 1 else ""


def _download(git: Git, url: str, commit: str) -> str:
    try:
        git("fetch", "--quiet", "--depth=1", url, commit)
    except GitError:
        # An abbreviated commit, or a host that serves only commits of branches and tags.
        full = _full_name(git, url, commit)
        if full:
            return _download(git, url, full)
        git(
            "fetch",
            "--quiet",
            url,
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
        )
    try:
        return git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()
    except GitError:
        fix = "Correct `version` in the app's entry"
        raise GitError(f"it has no branch, tag or commit {commit!r}. {fix}") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def explain(app: str, url: str, error: str) -> str:
    """Write a message with the app, the error and what to do."""
    advice = [text.format(app=app) for pattern, text in ADVICE.items() if re.search(pattern, error)]
    reason = advice[0] if advice else error.rstrip(".")
    details = f" (git said: {error})" if advice else ""
    text = f"The source of the app {app} cannot be fetched from {url}: {reason}.{details}"
    # An address may contain a password or a token.
    return re.sub(r"(https?://)[^/@\s]*@", r"\1***@", text)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "version": {"type": "str", "default": ""},
            "dest": {"type": "path", "required": True},
            "keys": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    dest = Path(options["dest"])
    dest.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Runs for several servers may fetch the same app at the same time.
    with dest.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            commit = fetch(options["url"], options["version"], dest, options["keys"])
        except GitError as error:
            module.fail_json(msg=explain(options["app"], options["url"], str(error)))
    module.exit_json(changed=False, commit=commit)


if __name__ == "__main__":
    main()
