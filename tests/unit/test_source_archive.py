import io
import os
import subprocess
import tarfile
from pathlib import Path

from ansible.module_utils.source_tree import Tree, source_files
from conftest import run_module
from module_utils.app import App
from source_archive import lacking, named, pack


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def packed(root: Path) -> bytes:
    buffer = io.BytesIO()
    pack(named(source_files(root), root), buffer)
    return buffer.getvalue()


def listed(root: Path) -> list[str]:
    return [file.relative_to(root).as_posix() for file in source_files(root)]


def test_ignored_files_stay_on_the_controller(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "pkg/a.py", "build/x", "a.log", "keep.log", "pkg/local/b")
    write(tmp_path, "pkg/c.tmp", ".env", ".git/config", ".venv/bin/python", "pkg/__pycache__/a.pyc")
    (tmp_path / ".gitignore").write_text("build/\n*.log\n!keep.log\n")
    (tmp_path / "pkg/.gitignore").write_text("/local\n*.tmp\n")
    assert listed(tmp_path) == [".gitignore", "app.py", "keep.log", "pkg/.gitignore", "pkg/a.py"]


def test_the_choice_is_gits_own(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "docs/a.md", "docs/deep/b.md", "out/x", "x.bak")
    write(tmp_path, "src/out/y", "src/keep/z")
    (tmp_path / ".gitignore").write_text("/out/\n**/deep/\n*.bak\nsrc/*\n!src/keep/\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    git = subprocess.run(
        ["git", "-C", tmp_path, "ls-files", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(listed(tmp_path)) == sorted(git.stdout.split())


def test_lists_that_windows_has_written_count(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "secrets.json", "x.log", "b.md")
    (tmp_path / ".gitignore").write_bytes(b"\xef\xbb\xbfsecrets.json\r\n*.log\r\n")
    (tmp_path / ".dockerignore").write_bytes(b"\xef\xbb\xbf*.md\r\n")
    assert listed(tmp_path) == [".dockerignore", ".gitignore", "a.py", "b.md"]
    kept = [file.name for file in source_files(tmp_path, dockerignore=True)]
    assert kept == [".dockerignore", ".gitignore", "a.py"]


def test_archive_is_the_same_wherever_and_whenever_it_is_packed(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place, "b.py", "a/x.py")
    os.utime(tmp_path / "one/b.py", (1, 1))
    (tmp_path / "one/b.py").chmod(0o600)
    assert packed(tmp_path / "one") == packed(tmp_path / "two")
    write(tmp_path / "two", "c.py")
    assert packed(tmp_path / "one") != packed(tmp_path / "two")


def test_archive_names_no_user_of_this_machine(tmp_path: Path) -> None:
    write(tmp_path, "a.sh")
    (tmp_path / "a.sh").chmod(0o700)
    (tmp_path / "link").symlink_to("a.sh")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path))) as tar:
        members = {m.name: m for m in tar.getmembers()}
    assert len(members) == 2
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in members.values()} == {(0, 0, "", 0)}
    assert members["a.sh"].mode == 0o755
    assert members["link"].linkname == "a.sh"


def test_what_an_entry_names_must_be_packed(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", "web/static/a.css", "dist/b.js", "docker/Dockerfile")
    (tmp_path / ".gitignore").write_text("dist/\n")

    def problems(**entry: str) -> list[str]:
        needs = App.from_entry({"name": "shop", **entry}).source_needs
        return lacking(Tree.of(tmp_path, source_files(tmp_path)), needs)

    assert problems(static="./web/static/") == []
    assert problems(dockerfile="docker/Dockerfile", static="web") == []
    # The folder is on the disk, but not in the archive.
    assert problems(static="dist") == [
        "apps.shop.static: the source has no dist, or .gitignore or .dockerignore names it."
    ]
    assert (
        "apps.shop.dockerfile: the source has no Dockerfile" in problems(dockerfile="Dockerfile")[0]
    )
    (tmp_path / "pyproject.toml").unlink()
    assert "apps.shop.source: the source has no requirements.txt or" in problems()[0]
    assert problems(dockerfile="docker/Dockerfile") == []


def test_what_dockerignore_names_stays_out_where_it_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        "app.py",
        "src/a.py",
        "src/tests/b.py",
        "src/c/__pycache__/x",
        "tests/t.py",
        "a.md",
    )
    (tmp_path / ".dockerignore").write_text("# comment\n/tests\n*.md\n**/c\n")

    def kept() -> list[str]:
        found = source_files(tmp_path, dockerignore=True)
        return [file.relative_to(tmp_path).as_posix() for file in found]

    assert kept() == [".dockerignore", "app.py", "src/a.py", "src/tests/b.py"]
    # Negative control: without .dockerignore all files are there.
    assert "tests/t.py" in listed(tmp_path)
    (tmp_path / ".dockerignore").write_text("*\n!src\n!.env\nsrc/tests\n")
    write(tmp_path, ".env")
    # It includes nothing that is ignored for another reason.
    assert kept() == ["src/a.py"]


def test_images_of_the_shipped_app_have_no_tests() -> None:
    root = Path(__file__).parents[2] / "app"
    names = [file.relative_to(root).as_posix() for file in source_files(root, dockerignore=True)]
    assert "src/my_flask_webpage/__init__.py" in names
    assert "pdm.lock" in names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "instance/"))]


def test_the_recipe_lies_beside_the_source_and_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "app/app.py", "app/Dockerfile", "recipe/Dockerfile", "recipe/runtime/entry")

    def digest(**options: str) -> str:
        return run_module("source_archive", path=str(tmp_path / "app"), **options)["digest"]

    archive = tmp_path / "archive.tar.gz"
    recipe = str(tmp_path / "recipe")
    assert digest(recipe=recipe, dest=str(archive)) == digest()
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == [
            "Dockerfile",
            "runtime/entry",
            "source/Dockerfile",
            "source/app.py",
        ]
    assert archive.stat().st_mode & 0o777 == 0o600
