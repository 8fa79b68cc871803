#!/usr/bin/python
"""Ansible module: tell which images the tarballs in a folder hold."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: image_archives
short_description: List the images in the tarballs of a folder
description:
  - Reads the manifest of each tarball that C(docker save) wrote, uncompressed or compressed by
    gzip, bzip2 or xz. Other files are ignored.
options:
  path:
    description: The folder, on the machine that runs the module.
    type: path
    required: true
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: List the images in the tarballs
  image_archives:
    path: ./images
  delegate_to: localhost
"""

RETURN = r"""
archives:
  description: Names of the images in each tarball, by the tarball's path.
  type: dict
  returned: always
"""


def images_in(archive: Path) -> list[str]:
    """
    List the images in a tarball.

    Parameters
    ----------
    archive : pathlib.Path
        A file that ``docker save`` may have written.

    Returns
    -------
    list of str
        Names with tags; empty if it is no such tarball. Source of the format:
        https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format

    """
    try:
        with tarfile.open(archive) as tar:
            manifest = tar.extractfile("manifest.json")
            images = json.load(manifest) if manifest else []
            return [name for image in images for name in image.get("RepoTags") or []]
    except (tarfile.TarError, KeyError, ValueError, AttributeError, EOFError):
        return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule({"path": {"type": "path", "required": True}}, supports_check_mode=True)
    folder = Path(module.params["path"])
    if not folder.is_dir():
        module.fail_json(
            msg=f"images_archive_dir: {folder} is not a folder on this machine. Set it to the "
            "folder with the tarballs that `docker save` wrote."
        )
    files = sorted(file for file in folder.iterdir() if file.is_file())
    found = {str(file): images_in(file) for file in files}
    module.exit_json(archives={path: names for path, names in found.items() if names})


if __name__ == "__main__":
    main()
