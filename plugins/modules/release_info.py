#!/usr/bin/python
"""Ansible module: tell which releases of an app a server keeps, and which one has the traffic."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases import (
    has_moved,
    live_release,
    previous_release,
    read_releases,
    served_releases,
    stale_releases,
)

DOCUMENTATION = r"""
module: release_info
short_description: List the releases of an app
description:
  - Reads the folder of each release, and the link that nginx follows to the one with the traffic.
    All of them belong to root.
options:
  dir: {description: The app's folder on the server., type: path, required: true}
  routes: {description: Folder of the app's routes., type: path, required: true}
  keep:
    description: How many releases stay that were in service before the live one.
    type: int
    default: 5
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: List the releases
  release_info:
    dir: /opt/flask-vps/apps/shop
    routes: /opt/flask-vps/edge/routes/shop
"""

RETURN = r"""
live: {description: Id of the release with the traffic; empty if none has., type: str}
moved:
  description: Whether that one listens in the folder of its routes, as releases do by now.
  type: bool
previous:
  description: Id of the release to roll back to; empty if there is none.
  type: str
releases:
  description: What is known of each release, the youngest first, with its C(state).
  type: list
  elements: dict
served:
  description: Ids of all that were ever in service, the one that was last first.
  type: list
  elements: str
stale: {description: Ids that C(keep) leaves out., type: list, elements: str}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "routes": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    app_dir, routes = Path(module.params["dir"]), Path(module.params["routes"])
    live = live_release(routes, app_dir)
    releases = read_releases(app_dir, live)
    module.exit_json(
        changed=False,
        live=live,
        moved=has_moved(routes, live),
        previous=previous_release(releases),
        releases=releases,
        served=served_releases(releases),
        stale=stale_releases(releases, module.params["keep"]),
    )


if __name__ == "__main__":
    main()
