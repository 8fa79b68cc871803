import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml
from image_archives import images_in

from images import archives_of, image_name, missing_images, without_digest

ROLE = Path(__file__).parents[2] / "roles/images"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("docker.io/library/nginx:1.29", "docker.io/library/nginx:1.29"),
        ("docker.io/nginx:1.29", "docker.io/library/nginx:1.29"),
        ("nginxproxy/acme-companion:2.8", "docker.io/nginxproxy/acme-companion:2.8"),
        ("localhost:5000/nginx", "localhost:5000/nginx:latest"),
        ("registry.example.org/a/b:1", "registry.example.org/a/b:1"),
        (f"nginx:1.29@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
    ],
)
def test_names_are_compared_in_full(name: str, full: str) -> None:
    assert image_name(name) == full


def test_images_are_missing_by_tag_and_by_digest() -> None:
    found = [
        {"RepoTags": ["nginx:1.29"], "RepoDigests": [f"nginx@{DIGEST}"]},
        {"RepoTags": None, "RepoDigests": None},
    ]
    wanted = ["docker.io/nginx:1.29", f"nginx:1.30@{DIGEST}", "nginx:1.30", f"postgres@{DIGEST}"]
    assert missing_images(wanted, found) == ["nginx:1.30", f"postgres@{DIGEST}"]


def test_a_digest_is_dropped_and_a_port_is_not() -> None:
    assert without_digest(f"localhost:5000/nginx:1.29@{DIGEST}") == "localhost:5000/nginx:1.29"


def save(path: Path, names: list[str] | None, mode: str = "w") -> None:
    content = json.dumps([{"Config": "c.json", "RepoTags": names, "Layers": []}]).encode()
    with tarfile.open(path, mode) as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def test_archives_are_read_whatever_their_compression(tmp_path: Path) -> None:
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        save(tmp_path / "archive", ["nginx:1.29", "a/b:1"], mode)
        assert images_in(tmp_path / "archive") == ["nginx:1.29", "a/b:1"]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a tarball")
    assert images_in(file) == []
    file.write_bytes(b"")
    assert images_in(file) == []
    with tarfile.open(file, "w") as tar:
        tar.addfile(tarfile.TarInfo("other"))
    assert images_in(file) == []
    save(file, None)
    assert images_in(file) == []


def test_each_wanted_image_finds_its_archive() -> None:
    archives = {"/a.tar": ["nginx:1.29", "postgres:17"], "/b.tar": ["localhost:5000/x:1"]}
    wanted = ["docker.io/library/nginx:1.29", "postgres:17", "localhost:5000/x:1", "redis:8"]
    assert archives_of(wanted, archives) == {
        "docker.io/library/nginx:1.29": "/a.tar",
        "postgres:17": "/a.tar",
        "localhost:5000/x:1": "/b.tar",
    }


def test_names_are_there_for_a_role_that_runs_alone_by_its_tag() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    (naming,) = [t for t in tasks if "images_names" in t.get("ansible.builtin.set_fact", {})]
    assert naming["tags"] == ["always"]
