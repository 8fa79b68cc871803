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
  - Reads the folder of each release, and the link that nginx follows to the live release. Only root
    may write to both.
options:
  dir:
    description: The app's folder on the server.
    type: path
    required: true
  routes:
    description: Folder of the app's routes.
    type: path
    required: true
  keep:
    description: How many releases to keep that were in service before the live release.
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
live:
  description: Id of the release that has the traffic, or an empty string.
  type: str
  returned: always
moved:
  description:
    - Whether the live release listens in the folder of its routes. Releases of older versions of
      this project do not.
  type: bool
  returned: always
previous:
  description: Id of the release that a rollback returns to, or an empty string.
  type: str
  returned: always
releases:
  description: Record of each release with its C(state), the latest first.
  type: list
  elements: dict
  returned: always
served:
  description: Ids of all releases that were ever in service, the last one first.
  type: list
  elements: str
  returned: always
stale:
  description: Ids of releases beyond O(keep).
  type: list
  elements: str
  returned: always
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
