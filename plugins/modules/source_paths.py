#!/usr/bin/python
"""Ansible module: see that what a build reads as root lies within the source."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.source_tree import SourceError, Tree

DOCUMENTATION = r"""
module: source_paths
short_description: Check that files which a build reads as root are within the source
description:
  - Docker opens a Dockerfile and the .dockerignore files as the user who runs the build, so a
    symbolic link could make it read a file of the server.
  - M(source_archive) checks a source on the controller. This module checks a source on the server,
    which an older version of this project may have sent.
options:
  source:
    description: The source on the server.
    type: path
    required: true
  paths:
    description: By the name of a variable, a file within the source.
    type: dict
    required: true
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Check the Dockerfile
  source_paths:
    source: /opt/flask-vps/apps/shop/releases/0123456789ab/source
    paths:
      apps.shop.dockerfile: Dockerfile
"""


def astray(source: Path, paths: dict[str, str]) -> list[str]:
    """
    Say which files are not within a source, links followed.

    Parameters
    ----------
    source : pathlib.Path
        The source.
    paths : dict of str to str
        As the module's option of the same name. Lists of ignored files are looked at anyway.

    Returns
    -------
    list of str
        A sentence for each.
    """
    tree = Tree.on_disk(source)
    lists = {name: name for name in tree.links if name.endswith(".dockerignore")}
    found = []
    for variable, path in {**paths, **lists}.items():
        try:
            tree.resolve(path)
        except SourceError as error:
            found.append(f"{variable}: {error}.")
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "paths": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    if found := astray(Path(module.params["source"]), module.params["paths"]):
        module.fail_json(msg="\n".join(found))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
