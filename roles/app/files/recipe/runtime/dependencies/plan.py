"""Turn a list of dependencies into installations for pip."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from dependencies.lists import (
    GIT,
    LOCKS,
    OPTION,
    Wanted,
    closure,
    includes,
    is_built,
    is_requirements,
    lines_of,
    listed,
    local_target,
    normal,
    not_editable,
    pipfile,
    toml,
)

HASH = "--hash"
# Debian's
PDM = ("/usr/bin/python3", "-m", "pdm")
POETRY = ("/usr/bin/python3", "-m", "poetry")
INDEX = re.compile(r"(--index-url|--extra-index-url|-i)[\s=]+(\S+)")
# The public index, also under its name of before 2018.
PUBLIC = re.compile(r"https?://pypi\.(python\.)?[a-z]+/simple/?")


@dataclass
class Plan:
    """
    What pip installs, in this order.

    Parameters
    ----------
    calls : list of list of str
        Arguments of ``pip install``.
    local : list of str
        Paths of packages in the source, which are installed after everything else.
    has_project : bool
        Whether the app itself is among the calls.
    text : str
        All lines, in which addresses of repositories are looked for.
    """

    calls: list[list[str]] = field(default_factory=list)
    local: list[str] = field(default_factory=list)
    has_project: bool = False
    text: str = ""


def plan(folder: Path, wanted: Wanted, tools: Tools) -> Plan:
    """Convert the list that `collect` has copied to a folder."""
    name = wanted.choose(folder)
    if is_requirements(name):
        return _of_requirements(folder, name, is_built(folder, wanted))
    document = toml(folder)
    if name in LOCKS:
        return split(folder, tools.export(name, folder, wanted))
    if name == "Pipfile.lock":
        return split(folder, pipfile((folder / name).read_text(), wanted.groups))
    if document.get("tool", {}).get("uv", {}).get("sources"):
        # Only uv knows where these come from; the index may have other packages of these names.
        return split(folder, tools.export("uv.lock", folder, wanted, frozen=False))
    project = document.get("project", {})
    dynamic = {"dependencies", "optional-dependencies"} & set(project.get("dynamic", []))
    if name == "setup.py" or "name" not in project or dynamic:
        extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
        groups = listed({**document, "project": {}}, Wanted(groups=wanted.groups))
        return Plan([[f".{extras}"], *_file(folder, "groups.txt", groups)], has_project=True)
    # pip would not understand the placeholder for the folder that PDM writes.
    lines = [f"./{_path(n)}" if "@ file:" in n else n for n in listed(document, wanted)]
    return Plan(_file(folder, "locked.txt", lines), text="\n".join(lines))


def _of_requirements(folder: Path, name: str, built: bool) -> Plan:
    files = closure(folder, name)
    text = "\n".join(line for file in files for line in lines_of(file))
    if HASH in text and any(_unchecked(folder, line) for line in text.splitlines()):
        return split(folder, _flat(folder, folder / name))
    targets = [local_target(folder, line) or "" for line in text.splitlines()]
    for file in files:
        lines = lines_of(file)
        # The index of the inventory stays the main one.
        kept = [line for line in lines if not _is_public(line)]
        kept = [not_editable(folder, line) for line in kept] if built else kept
        if kept != lines:
            file.write_text("".join(f"{line}\n" for line in kept))
    own = any(target.partition("[")[0].rstrip("/") == "." for target in targets)
    return Plan([["--requirement", name]], has_project=own, text=text)


def _flat(folder: Path, file: Path) -> list[str]:
    """Read a list with the lines of those that it includes; constraints stay options."""
    found = []
    for line in lines_of(file):
        option = OPTION.fullmatch(line)
        if option and includes(option[1]) and "://" not in option[2]:
            path = Path(os.path.normpath(file.parent / option[2].strip()))
            if option[1] in ("-c", "--constraint"):
                found.append(f"--constraint {path.relative_to(folder)}")
            else:
                found += _flat(folder, path)
        else:
            found.append(line)
    return found


def _is_public(line: str) -> bool:
    index = INDEX.fullmatch(line)
    return index is not None and PUBLIC.fullmatch(index[2]) is not None


def _unchecked(folder: Path, line: str) -> bool:
    """Tell whether pip cannot check the hash of a line."""
    return bool(GIT.search(line)) or local_target(folder, line) is not None


def split(folder: Path, lines: list[str]) -> Plan:
    """
    Separate what has hashes from repositories, and from packages in the source.

    pip checks all hashes or none, and has none of a git commit. A list with hashes is complete, so
    each part can be installed without looking for further dependencies.

    Parameters
    ----------
    folder : pathlib.Path
        The lists are written here.
    lines : list of str
        Logical lines in pip's format.

    Returns
    -------
    Plan
        The calls of pip.
    """
    options, hashed, others, local = [], [], [], []
    for line in filter(None, lines):
        target = local_target(folder, line) or (_is_path(line) and line)
        index = INDEX.fullmatch(line)
        if index and (index[1] != "--extra-index-url" or PUBLIC.fullmatch(index[2])):
            # The index of the inventory stays the main one.
            if not PUBLIC.fullmatch(index[2]):
                options.append(f"--extra-index-url {index[2]}")
        elif line.startswith("--constraint ") or (line[:2] == "--" and not OPTION.fullmatch(line)):
            options.append(line)
        elif target:
            local.append(_path(target))
        elif HASH in line:
            hashed.append(line)
        else:
            others.append(_direct(line))
    options = list(dict.fromkeys(options))
    made = Plan(local=[path for path in dict.fromkeys(local) if path != "."], text="\n".join(lines))
    if hashed:
        # Versions without a hash, such as those of an older lock, are not part of this promise.
        made.calls += _file(folder, "hashed.txt", hashed, options, "--require-hashes", "--no-deps")
        made.calls += _file(folder, "others.txt", others, options, "--no-deps")
    else:
        made.calls += _file(folder, "locked.txt", others, options)
    return made


def _direct(line: str) -> str:
    """Write the address of a repository so that every pip installs a copy of it."""
    line = re.sub(r"^(-e|--editable)[\s=]+(?=\S+://)", "", line)
    # Older versions of pip refuse an address without a host after a name.
    return re.sub(r"^([\w.-]+)(\[[^\]]*\])? @ (git\+file:///\S+)", r"\3#egg=\1\2", line)


def _is_path(line: str) -> bool:
    """Tell whether an exported line is a path, even if only its manifest was copied."""
    return (
        bool(re.match(r"((-e|--editable)\s+)?(file:|\.{0,2}/|[\w.-]+/)", line)) or "@ file:" in line
    )


def _path(target: str) -> str:
    """Reduce a local target to its path below the source."""
    text = re.sub(r"^(-e|--editable)\s+|\s*;.*$", "", target)
    text = re.sub(r"^.*@\s*", "", text) if "@ file:" in text else text
    text = re.sub(r"^file:(//)?", "", text).replace("${PROJECT_ROOT}", str(Path.cwd()))
    text = re.sub(r"\[[^\]]*\]$|#.*$", "", text.strip())
    path = os.path.normpath(re.sub("^/+", "/", text))
    for root in {str(Path.cwd()), str(Path.cwd().resolve())}:
        if path == root or path.startswith(f"{root}/"):
            path = os.path.relpath(path, root)
    if path.startswith(("/", "..")):
        raise SystemExit(f"The list names {target}, which is not in the app's folder.")
    return path


def _file(
    folder: Path, name: str, lines: list[str], options: list[str] | tuple = (), *flags: str
) -> list[list[str]]:
    if not lines:
        return []
    (folder / name).write_text("".join(f"{line}\n" for line in [*options, *lines]))
    return [["--requirement", name, *flags]]


def with_hashes(lines: list[str], lock: dict) -> list[str]:
    """
    Add the hashes of a ``pdm.lock`` to an exported list.

    Parameters
    ----------
    lines : list of str
        Lines in pip's format, without hashes.
    lock : dict
        The lock.

    Returns
    -------
    list of str
        The lines, with hashes where the lock has them.
    """
    hashes: dict[tuple[str, str], list[str]] = {}
    for package in lock.get("package", []):
        key = (normal(package["name"]), package.get("version", ""))
        hashes.setdefault(key, []).extend(file["hash"] for file in package.get("files", []))
    found = []
    for line in lines:
        match = re.match(r"([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", line)
        known = hashes.get((normal(match[1]), match[2]), []) if match else []
        found.append(" ".join([line, *(f"{HASH}={value}" for value in dict.fromkeys(known))]))
    return found


@dataclass
class Tools:
    """
    The programs that convert locks.

    Parameters
    ----------
    python : str
        The app's Python, whose version uv takes into account.
    uv : str
        What to install for uv.
    """

    python: str
    uv: str

    def export(self, name: str, folder: Path, wanted: Wanted, frozen: bool = True) -> list[str]:
        """Convert a lock to the lines of a list in pip's format."""
        out = folder / "exported.txt"
        make = {"pdm.lock": self._pdm, "uv.lock": self._uv, "poetry.lock": self._poetry}[name]
        make(out, wanted, frozen)
        lines = lines_of(out) if out.exists() else []
        return with_hashes(lines, toml(folder, name)) if name == "pdm.lock" else lines

    def _pdm(self, out: Path, wanted: Wanted, _: bool) -> None:
        chosen = [part for name in (*wanted.extras, *wanted.groups) for part in ("-G", name)]
        # PDM takes groups for development dependencies, which --production leaves out.
        chosen += [] if wanted.groups else ["--production"]
        # With hashes, PDM refuses a lock that has a package without them, such as a repository.
        chosen.append("--no-hashes")
        run(*PDM, "export", *chosen, "--format", "requirements", "--output", str(out))

    def _uv(self, out: Path, wanted: Wanted, frozen: bool) -> None:
        run("/usr/bin/python3", "-m", "venv", "/opt/uv")
        run("/opt/uv/bin/pip", "install", "--quiet", self.uv)
        chosen = [part for name in wanted.extras for part in ("--extra", name)]
        chosen += [part for name in wanted.groups for part in ("--group", name)]
        if "project" not in toml(Path.cwd()):
            # The root of such a workspace has no dependencies of its own.
            chosen.append("--all-packages")
        run(
            "/opt/uv/bin/uv", "export", "--quiet", *(["--frozen"] if frozen else []), "--no-dev",
            *chosen, "--no-header", "--no-annotate", "--emit-index-url", "--python", self.python,
            "--no-python-downloads", "--output-file", str(out),
        )  # fmt: skip

    def _poetry(self, out: Path, wanted: Wanted, _: bool) -> None:
        run("install-packages", "python3-poetry", "python3-poetry-plugin-export")
        chosen = [part for name in wanted.extras for part in ("--extras", name)]
        groups = ",".join(["main", *wanted.groups])
        run(*POETRY, "export", "--only", groups, *chosen, "--output", str(out))


def run(*command: str) -> None:
    """Run a program; exit if it fails."""
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"{Path(command[0]).name} failed.")


def provide_git(text: str) -> None:
    """Install git if a list names a repository, and ssh if it is read by that."""
    if GIT.search(text):
        needs_ssh = re.search(r"git\+ssh|git@", text)
        run("install-packages", "git", *(["openssh-client"] if needs_ssh else []))
