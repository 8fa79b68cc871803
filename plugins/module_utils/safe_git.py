"""
Run git on untrusted trees without running anything that their configuration names.

A repository's own configuration can name programs: core.fsmonitor, core.hooksPath, filters, ssh
commands, remotes. Git treats any folder with ``HEAD``, ``objects/`` and ``refs/`` as a repository,
and uses its ``config``. So git never searches for a repository here: `run` always names one, and
`WorkTree` reads an index through a temporary git directory, whose configuration contains only the
settings in ``HARMLESS``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

# Settings that override those of any repository. https://git-scm.com/docs/git-config
OPTIONS = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    # Since 2.38. A second protection, because `run` always names the repository.
    "safe.bareRepository": "explicit",
    # Submodules are fetched explicitly, because .gitmodules of the previous commit is out of date.
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    # Not allowed: transports that run a program, such as ext::, and local folders as submodules.
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.http.allow": "always",
    "protocol.ssh.allow": "always",
    "protocol.git.allow": "always",
    "protocol.file.allow": "user",
}
# Environment variables that are removed, because they point git to a repository or make it start
# programs. Variables that a login may need, such as GIT_CONFIG_COUNT, stay.
FOREIGN = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_GRAFT_FILE"),
    *("GIT_SHALLOW_FILE", "GIT_REPLACE_REF_BASE", "GIT_CONFIG", "GIT_TEMPLATE_DIR"),
    *("GIT_EXTERNAL_DIFF", "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
    *("GIT_NOGLOB_PATHSPECS", "GIT_ATTR_SOURCE", "GIT_DEFAULT_HASH", "GIT_ALLOW_PROTOCOL"),
)
# Settings of a work tree's own repository that change what its files mean and run nothing.
HARMLESS = re.compile(
    r"(core\.(filemode|ignorecase|precomposeunicode|symlinks|autocrlf|eol|excludesfile)"
    r"|core\.sparsecheckout(cone)?|extensions\.objectformat)"
)

# Git recognises a repository by these; with `commondir`, the last two are elsewhere.
BARE = ("HEAD", "commondir", "objects", "refs")


class GitError(Exception):
    """A problem that the operator can fix."""


def run(
    directory: Path,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
) -> str:
    """
    Run git with one repository and no other.

    Parameters
    ----------
    directory : pathlib.Path
        The repository: its ``.git``.
    *arguments : str
        The command and its arguments.
    cwd : pathlib.Path
        Top of the work tree.
    env : mapping, optional
        Variables in addition to those of this process.
    config : mapping, optional
        Settings in addition to `OPTIONS`, which take precedence.

    Returns
    -------
    str
        Git's output. File names that are not UTF-8 are decoded as by `os.fsdecode`.

    Raises
    ------
    GitError
        If git fails, with its own message, or is missing.
    """
    settings = {**(config or {}), **OPTIONS}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        # Names of folders are not patterns, whatever characters they contain.
        "GIT_LITERAL_PATHSPECS": "1",
        # Missing objects of a partial clone are not fetched from the remote in its configuration.
        "GIT_NO_LAZY_FETCH": "1",
        **(env or {}),
        # A variable, because `git submodule` has no option for it.
        "GIT_DIR": str(directory),
    }
    try:
        done = subprocess.run(
            ["git", *options, "--no-optional-locks", "--no-pager", *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        text = "git is missing on this machine. Install it: sudo apt-get install git"
        raise GitError(text) from None
    if done.returncode != 0:
        error = done.stderr.decode(errors="replace").strip()
        raise GitError(error or f"git {arguments[0]} failed")
    return os.fsdecode(done.stdout)


def looks_bare(folder: Path) -> bool:
    """
    Tell whether git may take a folder for a repository without a work tree.

    Like git, this does not check the kind of file behind each name.
    """
    there = {name for name in BARE if os.path.lexists(folder / name)}
    return "HEAD" in there and ("commondir" in there or {"objects", "refs"} <= there)


def _directory(top: Path) -> Path | None:
    """Find the repository of a work tree: ``.git``, or the target of a file with that name."""
    entry = top / ".git"
    try:
        if entry.is_file() and not entry.is_symlink():
            word, _, target = entry.read_text(errors="replace").strip().partition(" ")
            entry = top / target if word == "gitdir:" else entry
        return entry if entry.is_dir() and looks_bare(entry) else None
    except OSError:
        return None


def work_tree(folder: Path) -> WorkTree | None:
    """
    Find the work tree that a folder is in.

    Parameters
    ----------
    folder : pathlib.Path
        A folder, links resolved.

    Returns
    -------
    WorkTree or None
        None outside of any.
    """
    for top in (folder, *folder.parents):
        directory = _directory(top)
        if directory:
            return WorkTree(top, directory)
    return None


class WorkTree:
    """
    A work tree, read without its repository's configuration.

    Parameters
    ----------
    top : pathlib.Path
        Its folder.
    directory : pathlib.Path
        Its repository.
    """

    def __init__(self, top: Path, directory: Path) -> None:
        self.top, self.directory = top, directory
        self.common = directory
        if (directory / "commondir").is_file():
            self.common = directory / (directory / "commondir").read_text().strip()

    def files(self, folder: Path) -> tuple[list[str], list[str], list[str]] | None:
        """
        List the files of a folder as git sees them.

        Parameters
        ----------
        folder : pathlib.Path
            A folder of this work tree.

        Returns
        -------
        tuple of three lists of str, or None
            Paths relative to `folder`: tracked files, existing or not; submodules; files that git
            neither tracks nor ignores, with another work tree as one folder. None if git ignores
            the whole folder.

        Raises
        ------
        GitError
            If git fails.
        """
        prefix = _below(folder, self.top)
        start = f"{prefix}/" if prefix != "." else ""

        def ask(*arguments: str) -> list[str]:
            options = ("-z", "--full-name", *arguments)
            found = run(view, "ls-files", *options, "--", prefix, cwd=self.top)
            return [line for line in found.split("\0") if line]

        with self._view() as view:
            tracked, submodules = set(), set()
            for line in ask("--stage"):
                facts, _, name = line.partition("\t")
                # https://git-scm.com/docs/git-ls-files: mode 160000 is a commit of another one.
                kind = submodules if facts.startswith("160000 ") else tracked
                kind.add(name.removeprefix(start))
            others = {n.removeprefix(start) for n in ask("--others", "--exclude-standard")}
            if not tracked | submodules | others and start and self._ignores(view, prefix):
                return None
        return sorted(tracked), sorted(submodules), sorted(others)

    def names_submodule(self, folder: Path) -> bool:
        """Tell whether .gitmodules contains a submodule."""
        path = re.escape(_below(folder, self.top))
        text = _line(self.top / ".gitmodules")
        return re.search(rf"^\s*path\s*=\s*\"?{path}/?\"?\s*$", text, re.MULTILINE) is not None

    def _ignores(self, view: Path, name: str) -> bool:
        # check-ignore does not support literal pathspecs, and needs none. With a slash at the end,
        # the pattern "name/*" would match the folder itself.
        env = {"GIT_LITERAL_PATHSPECS": "0"}
        try:
            return bool(run(view, "check-ignore", "--", f"./{name}", cwd=self.top, env=env))
        except GitError as error:
            if "check-ignore failed" in str(error):  # no text: nothing matches
                return False
            raise

    def commit(self, folder: Path) -> str:
        """
        Return the commit of a folder, for display.

        Parameters
        ----------
        folder : pathlib.Path
            A folder of this work tree.

        Returns
        -------
        str
            Ten digits, marked ``-dirty`` if tracked files of the folder differ; empty if there is
            no commit.
        """
        head = self._head()
        if not head:
            return ""
        arguments = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
        try:
            with self._view(head) as view:
                dirty = run(view, *arguments, "--", _below(folder, self.top), cwd=self.top)
        except GitError:
            # A partial clone may lack objects.
            dirty = ""
        return head[:10] + ("-dirty" if dirty else "")

    def _head(self) -> str:
        """Read the commit that is checked out, without running git."""
        name = _line(self.directory / "HEAD")
        for _ in range(5):
            if not name.startswith("ref: "):
                break
            name = _ref(self.common, name.removeprefix("ref: "))
        return name if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) else ""

    @contextmanager
    def _view(self, head: str = "ref: refs/heads/none") -> Iterator[Path]:
        """Make a repository with this one's index and exclusions, but with a safe configuration."""
        with tempfile.TemporaryDirectory(prefix="flask-vps-git-") as name:
            view = Path(name)
            for folder in ("objects/info", "refs", "info"):
                (view / folder).mkdir(parents=True)
            (view / "HEAD").write_text(f"{head}\n")
            objects = (self.common / "objects").resolve()
            (view / "objects/info/alternates").write_text(f"{objects}\n")
            for file in (self.directory / "index", *self.directory.glob("sharedindex.*")):
                if file.is_file():
                    shutil.copyfile(file, view / file.name)
            for file in (self.common / "info/exclude", self.directory / "info/sparse-checkout"):
                if file.is_file():
                    shutil.copyfile(file, view / "info" / file.name)
            (view / "config").write_text("\n".join(map(_setting, self._settings())) + "\n")
            yield view

    def _settings(self) -> list[tuple[str, str]]:
        """Read the harmless settings, and add the version that makes one of them valid."""
        found = [("core.repositoryformatversion", "1"), ("core.bare", "false")]
        found.append(("core.worktree", str(self.top)))
        file = self.common / "config"
        if file.is_file():
            arguments = ("--no-includes", "--file", str(file.resolve()), "--null", "--list")
            # Without a repository, so that only this file is read.
            for line in run(Path(os.devnull), "config", *arguments, cwd=Path("/")).split("\0"):
                name, equals, value = line.partition("\n")
                if HARMLESS.fullmatch(name):
                    found.append((name, value if equals else "true"))
        return found


def _setting(setting: tuple[str, str]) -> str:
    section, _, name = setting[0].partition(".")
    value = setting[1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'[{section}]\n\t{name} = "{value}"'


def _below(folder: Path, top: Path) -> str:
    return folder.relative_to(top).as_posix()


def _line(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip() if file.is_file() else ""
    except OSError:
        return ""


def _ref(common: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.parts[:1] != ("refs",) or ".." in path.parts:
        return ""
    if loose := _line(common / path):
        return loose
    for line in _line(common / "packed-refs").splitlines():
        if line.endswith(f" {name}"):
            return line.split(" ")[0]
    return ""
