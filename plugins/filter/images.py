"""Filters that compare names of images, which Docker accepts in several forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def image_name(name: str) -> str:
    """
    Write an image's name in full, as ``registry/path:tag`` or ``registry/path@digest``.

    Parameters
    ----------
    name : str
        Such as ``nginx:1.29``, ``nginx@sha256:...`` or ``nginx:1.29@sha256:...``. As for Docker, a
        digest outweighs the tag beside it, the registry is docker.io, and the tag is latest.

    Returns
    -------
    str
        Such as ``docker.io/library/nginx:1.29``. Source of the rules:
        https://pkg.go.dev/github.com/distribution/reference

    """
    path, _, digest = name.partition("@")
    repository, colon, tag = path.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        repository, tag = path, "latest"
    first, slash, rest = repository.partition("/")
    if first == "docker.io" and "/" not in rest:
        repository = f"docker.io/library/{rest}"
    elif not slash:
        repository = f"docker.io/library/{repository}"
    elif "." not in first and ":" not in first and first != "localhost":
        repository = f"docker.io/{repository}"
    return f"{repository}@{digest}" if digest else f"{repository}:{tag}"


def without_digest(name: str) -> str:
    """Drop the digest from the name of an image."""
    return name.partition("@")[0]


def missing_images(wanted: Iterable[str], found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the images that a server lacks."""
    present = {
        image_name(name)
        for image in found
        for name in [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]
    }
    return [name for name in wanted if image_name(name) not in present]


def archives_of(wanted: Iterable[str], archives: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Find the tarball that holds each image."""
    holders = {image_name(name): path for path, names in archives.items() for name in names}
    return {name: holders[image_name(name)] for name in wanted if image_name(name) in holders}


def docker_gen_waits(command: Iterable[str], wait: str) -> list[str]:
    """Change how long docker-gen waits before it writes the configuration."""
    words = list(command)
    if "-wait" in words[:-1]:
        words[words.index("-wait") + 1] = wait
    return words


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "archives_of": archives_of,
            "docker_gen_waits": docker_gen_waits,
            "missing_images": missing_images,
            "without_digest": without_digest,
        }
