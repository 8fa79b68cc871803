"""How the recipe of an image reads lists of dependencies, and runs the build command."""

import importlib.machinery
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "roles/app/files/recipe/runtime"
sys.path.append(str(RUNTIME))

import dependencies.plan  # noqa: E402
from dependencies import advice, outside, secrets  # noqa: E402
from dependencies.lists import Wanted, collect, is_built, listed, pipfile, toml  # noqa: E402
from dependencies.plan import Tools, plan, split, with_hashes  # noqa: E402

PACKAGE = '[project]\nname = "core"\nversion = "1"\n[build-system]\nrequires = ["hatchling"]\n'
HASHED = "flask==3.0.0 --hash=sha256:aa"
# The name of the public index in old lists.
PYPI = "https://pypi.python" + ".org/simple"
GIT = "tool @ git+https://git.example.org/me/tool@0123456789abcdef"


def script(name: str) -> ModuleType:
    """Import a program without an extension."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(RUNTIME / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_txt", ".txt").replace("_toml", ".toml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


class Exports(Tools):
    """Stands in for the tools, which need a network."""

    def __init__(self, *lines: str) -> None:
        super().__init__("python3", "uv")
        self.lines, self.asked = list(lines), []

    def export(self, name: str, *_: Any, **more: bool) -> list[str]:
        self.asked.append((name, more))
        return self.lines


def planned(folder: Path, wanted: Wanted | None = None, tools: Tools | None = None) -> dict:
    """Name what pip would install: its arguments, with the lines of lists."""
    found = plan(folder, wanted or Wanted(), tools or Exports())
    calls = []
    for call in found.calls:
        lines = (
            (folder / call[1]).read_text().split("\n")[:-1] if call[0] == "--requirement" else []
        )
        calls.append((lines, call[2:]) if lines else call)
    return {"calls": calls, "local": found.local, "app": found.has_project}


# Which list


def test_the_entry_names_the_list(tmp_path: Path) -> None:
    write(tmp_path, requirements__production_txt="-r base.txt\ngunicorn\n")
    write(tmp_path, requirements__base_txt="flask\n", requirements__dev_txt="pytest\n")
    with pytest.raises(SystemExit, match="needs one of"):
        Wanted().choose(tmp_path)
    wanted = Wanted("requirements/production.txt")
    collect(tmp_path, tmp_path / "lists", wanted)
    there = sorted(f.name for f in (tmp_path / "lists").rglob("*.txt"))
    assert there == ["base.txt", "production.txt"]
    calls = plan(tmp_path / "lists", wanted, Exports()).calls
    assert calls == [["--requirement", "requirements/production.txt"]]
    with pytest.raises(SystemExit, match="has no file"):
        Wanted("requirements/prod.txt").choose(tmp_path)
    with pytest.raises(SystemExit, match="has no file"):
        Wanted("../secret.txt").choose(tmp_path)


def test_a_lock_may_be_named_beside_requirements(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="flask\n", pyproject_toml=PACKAGE)
    (tmp_path / "uv.lock").write_text("")
    assert Wanted().choose(tmp_path) == "requirements.txt"
    assert Wanted("uv.lock").choose(tmp_path) == "uv.lock"


# Extras and groups

PROJECT = """
[project]
name = "shop"
dependencies = ["flask"]
[project.optional-dependencies]
production = ["gunicorn"]
All_ = ["shop[production]", "redis"]
[dependency-groups]
jobs = ["rq", {include-group = "mail"}]
mail = ["flask-mail"]
dev = ["pytest"]
"""


def test_extras_and_groups_are_installed_on_request(tmp_path: Path) -> None:
    document = toml(write(tmp_path, pyproject_toml=PROJECT))
    assert listed(document, Wanted()) == ["flask"]
    assert listed(document, Wanted(extras=["production"])) == ["flask", "gunicorn"]
    assert listed(document, Wanted(extras=["all-"])) == ["flask", "redis", "gunicorn"]
    assert listed(document, Wanted(groups=["jobs"])) == ["flask", "rq", "flask-mail"]
    with pytest.raises(SystemExit, match=r"no extra prod \(it has: all-, production\)"):
        listed(document, Wanted(extras=["prod"]))
    # A list of pip knows none, so the project's own list is read.
    write(tmp_path, requirements_txt="flask\n")
    assert Wanted().choose(tmp_path) == "requirements.txt"
    assert Wanted(extras=["production"]).choose(tmp_path) == "pyproject.toml"
    (tmp_path / "pyproject.toml").unlink()
    with pytest.raises(SystemExit, match="not only requirements"):
        Wanted(groups=["jobs"]).choose(tmp_path)


def test_extras_of_a_project_with_dynamic_dependencies_are_left_to_pip(tmp_path: Path) -> None:
    write(tmp_path, pyproject_toml='[project]\nname = "shop"\ndynamic = ["dependencies"]\n')
    assert planned(tmp_path, Wanted(extras=["a", "b"]))["calls"] == [[".[a,b]"]]
    write(tmp_path / "old", setup_py="")
    (tmp_path / "old/setup.py").write_text("")
    assert planned(tmp_path / "old", Wanted(extras=["a"])) == {
        "calls": [[".[a]"]],
        "local": [],
        "app": True,
    }


def test_a_pipfile_s_lock_is_read() -> None:
    lock = {
        "_meta": {
            "sources": [
                {"url": PYPI},
                {"name": "own", "url": "https://${USER}:${TOKEN}@pkg.example.org/simple"},
            ]
        },
        "default": {
            "flask": {
                "version": "==3.0.0",
                "hashes": ["sha256:aa"],
                "markers": "python_version > '3'",
            },
            "tool": {"git": "git@git.example.org:me/tool.git", "ref": "abc"},
            "core": {"path": "libs/core", "editable": True},
            "mail": {"extras": ["x", "y"], "version": "==1", "hashes": ["sha256:bb"]},
        },
        "develop": {"pytest": {"version": "==8"}},
    }
    lines = pipfile(json.dumps(lock))
    assert lines == [
        f"--extra-index-url {PYPI}",
        "--extra-index-url https://${USER}:${TOKEN}@pkg.example.org/simple",
        "flask==3.0.0 ; python_version > '3' --hash=sha256:aa",
        "tool @ git+ssh://git@git.example.org/me/tool.git@abc",
        "libs/core",
        "mail[x,y]==1 --hash=sha256:bb",
    ]
    assert "pytest==8" in pipfile(json.dumps(lock), ["develop"])
    with pytest.raises(SystemExit, match="no category jobs"):
        pipfile(json.dumps(lock), ["jobs"])


def test_a_list_that_names_the_public_index_leaves_the_inventory_s_alone(tmp_path: Path) -> None:
    other = "--extra-index-url https://pkg.example.org/simple"
    write(tmp_path, requirements_txt=f"-i {PYPI}\n{other}\nflask\n")
    assert planned(tmp_path)["calls"] == [([other, "flask"], [])]


# Hashes, repositories and packages in the source


def test_a_lock_with_one_git_dependency_checks_all_other_hashes(tmp_path: Path) -> None:
    write(tmp_path, pyproject_toml=PACKAGE)
    (tmp_path / "uv.lock").write_text("")
    lines = [f"--index-url {PYPI}", HASHED, GIT, "-e ./libs/core"]
    assert planned(tmp_path, tools=Exports(*lines)) == {
        "calls": [([HASHED], ["--require-hashes", "--no-deps"]), ([GIT], ["--no-deps"])],
        "local": ["libs/core"],
        "app": False,
    }


def test_a_lock_of_pdm_keeps_its_hashes_beside_a_repository() -> None:
    lock = {
        "package": [
            {"name": "Flask", "version": "3.0.0", "files": [{"hash": "sha256:aa"}]},
            {"name": "flask", "version": "3.0.0", "files": [{"hash": "sha256:aa"}]},
            {"name": "tool", "version": "1.0", "git": "https://git.example.org/me/tool"},
        ]
    }
    lines = ["flask[async]==3.0.0; python_version > '3'", GIT, "other==1"]
    assert with_hashes(lines, lock) == [
        "flask[async]==3.0.0; python_version > '3' --hash=sha256:aa",
        GIT,
        "other==1",
    ]


def test_so_does_a_list_of_pip_itself(tmp_path: Path) -> None:
    base = (
        f"flask==3.0.0 \\\n    --hash=sha256:aa  # via -r\n-e {GIT.partition(' @ ')[2]}#egg=tool\n"
    )
    write(tmp_path, requirements_txt="-r base.txt\n-e .\n", base_txt=base)
    assert planned(tmp_path) == {
        "calls": [
            (["flask==3.0.0      --hash=sha256:aa"], ["--require-hashes", "--no-deps"]),
            ([GIT.partition(" @ ")[2] + "#egg=tool"], ["--no-deps"]),
        ],
        "local": [],
        "app": False,
    }
    # Negative control: a list without a repository is left to pip, hashes and all.
    write(tmp_path, requirements_txt=f"{HASHED}\n")
    assert planned(tmp_path)["calls"] == [([HASHED], [])]


def test_an_index_in_the_lock_is_used_beside_that_of_the_inventory(tmp_path: Path) -> None:
    lines = [
        f"--index-url {PYPI}",
        "--extra-index-url https://${TOKEN}@pkg.example.org/simple",
        HASHED,
        GIT,
    ]
    found = split(tmp_path, lines)
    own = "--extra-index-url https://${TOKEN}@pkg.example.org/simple"
    assert (tmp_path / "hashed.txt").read_text().splitlines() == [own, HASHED]
    assert (tmp_path / "others.txt").read_text().splitlines() == [own, GIT]
    # An index that replaces the public one must not replace the inventory's.
    split(tmp_path, ["--index-url https://pkg.example.org/simple", HASHED])
    text = (tmp_path / "hashed.txt").read_text()
    assert text.startswith("--extra-index-url https://pkg.example.org/simple\n")
    assert found.local == []


@pytest.mark.parametrize("line", ["-e libs/core", "libs/core", "./libs/core", "-e ./libs/core[x]"])
def test_a_package_in_the_source_is_one_in_any_spelling(tmp_path: Path, line: str) -> None:
    write(tmp_path, requirements_txt=f"flask\n{line}\n", libs__core__pyproject_toml=PACKAGE)
    assert is_built(tmp_path, Wanted())
    collect(tmp_path, tmp_path / "lists", Wanted())
    assert (tmp_path / "lists/libs/core/pyproject.toml").exists()
    ((lines, _),) = planned(tmp_path / "lists")["calls"]
    # Installed as a copy: the path of an editable one exists only during the build.
    assert lines[1].removeprefix("./").startswith("libs/core") and "-e" not in lines[1]


def test_a_folder_after_e_is_never_looked_for_in_the_index(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="-e core\n", core__pyproject_toml=PACKAGE)
    assert planned(tmp_path)["calls"] == [(["./core"], [])]
    # Negative control: a name without a folder is one of the index.
    write(tmp_path, requirements_txt="core-x\nlibs/none\n")
    assert not is_built(tmp_path, Wanted())


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("-e ./libs/core", "libs/core"),
        ("./libs/core ; python_version > '3'", "libs/core"),
        ("core @ file:///build/libs/core", "libs/core"),
        ("core @ file:///${PROJECT_ROOT}/libs/core", "libs/core"),
        ("-e file:///${PROJECT_ROOT}/libs/core#egg=core", "libs/core"),
        ("libs/core", "libs/core"),
    ],
)
def test_exported_paths_are_those_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = split(tmp_path, [line.replace("/build", str(tmp_path)), HASHED])
    assert found.local == [path]
    assert (tmp_path / "hashed.txt").read_text() == f"{HASHED}\n"


def test_a_path_out_of_the_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not in the app's folder"):
        split(tmp_path, ["-e ../core", HASHED])


def test_packages_from_outside_of_the_folder_are_installed_from_the_source(tmp_path: Path) -> None:
    lists = "-r requirements/base.txt\n-e ../core[x]\n../../tools ; python_version > '3'\n"
    write(
        tmp_path, requirements_txt=lists, requirements__base_txt="-r ../more.txt\n--editable ..\n"
    )
    write(tmp_path, more_txt="flask\n")
    collect(tmp_path, tmp_path / "lists", Wanted())
    outside.rewrite(tmp_path / "lists", "requirements.txt")
    assert (tmp_path / "lists/requirements.txt").read_text().splitlines() == [
        "-r requirements/base.txt",
        "-e ./.outside/1/core[x]",
        "./.outside/2/tools ; python_version > '3'",
    ]
    text = (tmp_path / "lists/requirements/base.txt").read_text()
    assert text == "-r ../more.txt\n--editable ./.outside/1\n"
    assert planned(tmp_path / "lists")["calls"][0][0][1] == "./.outside/1/core[x]"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('core = { path = "../../", editable = true }', '".outside/2"'),
        ("core = {path = '../libs/core'}", "'.outside/1/libs/core'"),
        ('"core @ file:///${PROJECT_ROOT}/../core"', '/.outside/1/core"'),
        ('source = { directory = ".." }', '".outside/1"'),
        ('core = { path = "libs/..core" }', '"libs/..core"'),
    ],
)
def test_a_project_names_such_packages_in_the_source(
    tmp_path: Path, before: str, after: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(before)
    (tmp_path / "uv.lock").write_text(before)
    outside.rewrite(tmp_path, "uv.lock")
    assert after in (tmp_path / "pyproject.toml").read_text()
    assert after in (tmp_path / "uv.lock").read_text()


def test_a_workspace_without_its_code_is_enough_for_the_lists(tmp_path: Path) -> None:
    write(tmp_path, pyproject_toml=PACKAGE, libs__core__pyproject_toml=PACKAGE)
    (tmp_path / "uv.lock").write_text("")
    write(tmp_path, libs__core__core__code_txt="", app_txt="")
    collect(tmp_path, tmp_path / "lists", Wanted())
    there = sorted(
        f.relative_to(tmp_path / "lists").as_posix() for f in (tmp_path / "lists").rglob("*.*")
    )
    assert there == ["libs/core/pyproject.toml", "pyproject.toml", "uv.lock"]


def test_sources_of_uv_without_a_lock_are_not_looked_for_in_the_index(tmp_path: Path) -> None:
    text = PACKAGE + '[tool.uv.sources]\ncore2 = {path = "libs/core2"}\n'
    write(tmp_path, pyproject_toml=text)
    tools = Exports("-e ./libs/core2", HASHED)
    assert planned(tmp_path, tools=tools)["local"] == ["libs/core2"]
    assert tools.asked == [("uv.lock", {"frozen": False})] and is_built(tmp_path, Wanted())


# The app itself


@pytest.mark.parametrize(
    ("text", "package"),
    [
        (PACKAGE, True),
        (PROJECT, False),
        (f"{PACKAGE}[tool.uv]\npackage = false\n", False),
        (f"{PACKAGE}[tool.pdm]\ndistribution = false\n", False),
        ('[tool.poetry]\nname = "x"\n[build-system]\nrequires = []\n', True),
        ('[tool.poetry]\nname = "x"\npackage-mode = false\n[build-system]\nrequires = []\n', False),
        ("[tool.ruff]\n", False),
    ],
)
def test_the_app_is_installed_where_it_is_a_package(
    tmp_path: Path, text: str, package: bool
) -> None:
    module = script("install-dependencies")
    assert module.is_package(write(tmp_path, pyproject_toml=text)) is package


def install_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: str, code: int) -> str:
    """Install an app with a pip that only records how it was called."""
    module = script("install-dependencies")
    source = write(tmp_path / "source", pyproject_toml=PACKAGE, libs__a__pyproject_toml=PACKAGE)
    pip = tmp_path / "venv/bin/pip"
    pip.parent.mkdir(parents=True)
    (tmp_path / "venv/lib/python3.12").mkdir(parents=True)
    pip.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\nexit {code}\n')
    pip.chmod(0o755)
    module.VENV, module.PROJECT = tmp_path / "venv", tmp_path / "project"
    module.LOCAL = tmp_path / "local"
    module.LOCAL.write_text(local)
    monkeypatch.setattr(secrets, "use", lambda: None)
    monkeypatch.chdir(source)
    module.install_project()
    called = tmp_path / "called"
    return called.read_text() if called.exists() else ""


def test_it_brings_no_dependencies_and_comes_after_the_packages_in_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = install_project(tmp_path, monkeypatch, "libs/a\n", 0).splitlines()
    assert first.startswith("install --no-deps") and first.endswith("./libs/a")
    assert second.startswith("install --no-deps") and second.endswith(" .")


@pytest.mark.parametrize("line", [".", "-e .", "-e ./", ".[production]", "-e .[production]"])
def test_a_list_may_name_the_app_itself(tmp_path: Path, line: str) -> None:
    write(tmp_path, requirements_txt=f"flask\n{line}\n", pyproject_toml=PACKAGE)
    found = planned(tmp_path)
    assert found["app"] and "-e" not in str(found["calls"])
    # Negative control.
    write(tmp_path, requirements_txt="flask\n")
    assert not planned(tmp_path)["app"]


def test_it_is_not_installed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert install_project(tmp_path, monkeypatch, ".\n", 0) == ""


def test_an_app_that_is_no_proper_package_still_deploys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    install_project(tmp_path, monkeypatch, "", 1)
    assert "could not be installed as a package" in capsys.readouterr().out


def test_a_package_in_the_source_that_fails_fails_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="pip failed"):
        install_project(tmp_path, monkeypatch, "libs/a\n", 1)


# Advice


@pytest.mark.parametrize(
    ("said", "packages"),
    [
        ("error: command 'g++' failed: No such file or directory", "g++"),
        ("gcc: fatal error: cannot execute 'cc1plus': posix_spawnp: No such file", "g++"),
        ("error: can't find Rust compiler", "cargo, rustc"),
        ("/bin/sh: 1: pkg-config: not found", "pkg-config"),
        (
            "Exception: Can not find valid pkg-config name.\nmysql_config: not found",
            "default-libmysqlclient-dev",
        ),
        (
            "fatal error: libxml/xmlversion.h: No such file or directory",
            "libxml2-dev, libxslt1-dev",
        ),
        ("fatal error: ffi.h: No such file or directory", "libffi-dev"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'gfortran'", "gfortran"),
        ("ERROR: Unknown compiler(s): [['gfortran'], ['flang']]", "gfortran"),
        ("CMake Error: CMAKE_CXX_COMPILER not set\nNo CMAKE_CXX_COMPILER could be found", "g++"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "cmake"),
        ("Error: pg_config executable not found.", "libpq-dev"),
        ("make: swig: No such file or directory", "swig"),
    ],
)
def test_a_missing_compiler_is_named(said: str, packages: str) -> None:
    text = " ".join(advice.advise(f"{said}\nERROR: Failed building wheel for x", "3.13"))
    assert f"`build_packages: [{packages}]`" in text and "this Python (3.13)" in text


def test_nothing_is_named_that_is_not_missing() -> None:
    said = "x.c:1: error: unknown type name 'a'\nerror: command 'gcc' failed with exit code 1"
    text = " ".join(advice.advise(f"{said}\nERROR: Failed building wheel for x", "3.13"))
    assert "could not be compiled without" not in text and "raise the version" in text
    # Without a compilation, a missing program is not one of the build.
    assert advice.advise("/bin/sh: 1: g++: not found", "3.13") == []


# Secrets


def test_secrets_reach_the_tools_and_not_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    monkeypatch.setattr(secrets, "FOLDER", tmp_path)
    monkeypatch.setattr(secrets, "PRIVATE", tmp_path / "private")
    given = {
        "variables": {"TOKEN": "t0ken", "NETRC": "machine h login a password b"},
        "keys": {"git.example.org/me/core": "KEY"},
        "ssh": "#!/bin/sh\n",
    }
    (tmp_path / "build_secrets").write_text("\n" + json.dumps(given))
    secrets.use()
    assert os.environ["TOKEN"] == "t0ken"
    assert Path(os.environ["NETRC"]).read_text() == "machine h login a password b\n"
    assert (Path(os.environ["HOME"]) / ".netrc").stat().st_mode & 0o777 == 0o600
    keys = json.loads((tmp_path / "private/keys.json").read_text())["keys"]
    assert Path(keys["git.example.org/me/core"]).read_text() == "KEY\n"
    # The program itself may lie in a file system without execution.
    assert os.environ["GIT_SSH_COMMAND"] == f"{sys.executable} {tmp_path / 'private/ssh'}"
    assert not (tmp_path / "private/ssh").stat().st_mode & 0o100
    assert secrets.hide("Looking in https://me:t0ken@h/simple") == "Looking in https://***@h/simple"


def test_git_uses_the_operator_s_agent_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"SSH_AUTH_SOCK": str(tmp_path / "agent"), "KNOWN_HOSTS": "h ssh-rsa A"}
    monkeypatch.setattr(os, "environ", given.copy())
    monkeypatch.setattr(secrets, "FOLDER", tmp_path)
    monkeypatch.setattr(secrets, "PRIVATE", tmp_path / "private")
    secrets.use()
    assert "GIT_SSH_COMMAND" not in os.environ
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(given["SSH_AUTH_SOCK"])
        secrets.use()
    command = os.environ["GIT_SSH_COMMAND"]
    assert command.startswith("ssh -oBatchMode=yes -oStrictHostKeyChecking=yes")
    assert (tmp_path / "private/known_hosts").read_text() == "h ssh-rsa A\n"


# The build command


@pytest.mark.parametrize(
    ("command", "first", "rest"),
    [
        ("npm ci && npm run build", "npm ci", "npm run build"),
        ("cd web && npm ci --no-audit && npm run build", "npm ci --no-audit", "npm run build"),
        ("yarn && yarn build", "yarn", "yarn build"),
        ("npm ci", "npm ci", ""),
        ("npm run build", None, None),
        ("pybabel compile -d translations", None, None),
        ("npm install left-pad && true", None, None),
    ],
)
def test_node_s_packages_are_cached_apart(
    tmp_path: Path, command: str, first: str | None, rest: str | None
) -> None:
    (tmp_path / "web").mkdir()
    for folder in (tmp_path, tmp_path / "web"):
        (folder / "package.json").write_text("{}")
    match = script("build-app").early(command, tmp_path)
    assert (match and match["command"].strip()) == first
    assert (match and (match["rest"] or "").strip()) == rest


@pytest.mark.parametrize(
    "package",
    [{"scripts": {"postinstall": "x"}}, {"dependencies": {"core": "file:../core"}}, "no JSON"],
)
def test_packages_that_need_the_source_are_installed_with_it(tmp_path: Path, package: Any) -> None:
    text = package if isinstance(package, str) else json.dumps(package)
    (tmp_path / "package.json").write_text(text)
    assert script("build-app").early("npm ci && npm run build", tmp_path) is None


@pytest.mark.parametrize(
    ("manifest", "text", "packages"),
    [
        ("package.json", '{"dependencies": {"a": "git+ssh://git@h/a.git"}}', "git openssh-client"),
        ("web/package-lock.json", '{"resolved": "git+https://h/a.git#1"}', "git"),
        ("package.json", '{"repository": {"url": "git+https://h/a.git"}}', ""),
        ("node_modules/a/package.json", '{"dependencies": {"a": "git+ssh://git@h/a.git"}}', ""),
    ],
)
def test_node_s_packages_from_git_get_git(
    tmp_path: Path, manifest: str, text: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = []
    monkeypatch.setattr(dependencies.plan, "run", lambda _, *names: installed.extend(names))
    file = tmp_path / manifest
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    build = script("build-app")
    build.provide_git(build.addresses(tmp_path))
    assert " ".join(installed) == packages


def test_the_command_runs_in_the_app_with_its_variables(tmp_path: Path) -> None:
    code = (
        "import os, runpy, sys\n"
        f"sys.path.insert(0, {str(RUNTIME)!r})\n"
        "from pathlib import Path\n"
        "from dependencies import secrets\n"
        f"secrets.PRIVATE = Path({str(tmp_path / 'private')!r})\n"
        f"sys.argv = ['build-app', 'run']\nsys.dont_write_bytecode = True\n"
        f"runpy.run_path({str(RUNTIME / 'build-app')!r}, run_name='__main__')\n"
    )
    app = tmp_path / "app"
    for folder in ("node_modules/x", "static/node_modules/y", "static/dist"):
        (app / folder).mkdir(parents=True)
    environment = {
        **os.environ,
        "BUILD": 'echo "$COLOUR $SECRET_KEY" > static/dist/app.css && false || exit ${CODE:-0}',
        "BUILD_ENVIRONMENT": '{"COLOUR": "navy"}',
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=app, env=environment, check=False)
    assert done.returncode == 0
    assert (app / "static/dist/app.css").read_text() == "navy only-for-the-build\n"
    assert not (app / "node_modules").exists() and (app / "static/node_modules/y").exists()
    environment["CODE"] = "3"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=app, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "The build command failed with exit code 3" in done.stderr


def test_plain_psycopg_gets_the_library_that_it_opens_by_name(tmp_path: Path) -> None:
    module = script("install-dependencies")
    (tmp_path / "psycopg").mkdir()
    assert module._opened(tmp_path) == {"libpq5"}
    (tmp_path / "psycopg_binary").mkdir()
    assert module._opened(tmp_path) == set()


@pytest.mark.parametrize(
    ("output", "package"),
    [
        (
            "Collecting click==6.7 (from -r x)\nCollecting dominate==2.3.1 (from -r x)\n"
            "  Getting requirements to build wheel: finished with status 'error'\n"
            "error: subprocess-exited-with-error.\n",
            "dominate==2.3.1",
        ),
        ("Collecting flask\n  ERROR: Failed building wheel for greenlet\n", "greenlet"),
        ("error: subprocess-exited-with-error.\n", "A package"),
    ],
)
def test_the_package_that_does_not_build_is_named(output: str, package: str) -> None:
    assert advice.failed_package(output) == package
    assert advice.advise(output, "3.13")[0].startswith(f"{package} has no wheel for this Python")


def test_a_lock_that_is_too_old_is_no_dead_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, setup_py="")
    (tmp_path / "setup_py").rename(tmp_path / "setup.py")
    (tmp_path / "Pipfile.lock").write_text("{}")
    collect(tmp_path, tmp_path / "lists", Wanted())
    monkeypatch.chdir(tmp_path / "lists")
    program = script("install-dependencies")
    said = program._without_lock("markupsafe==1.0 has no wheel for this Python (3.13)")
    assert "those of Pipfile.lock" in said and "`requirements: setup.py`" in said
    assert Wanted("setup.py").choose(tmp_path) == "setup.py"
    # Negative control: other failures, and lists that are no locks.
    assert program._without_lock("Could not find a version") == ""
    (tmp_path / "lists/Pipfile.lock").unlink()
    assert program._without_lock("x has no wheel") == ""
