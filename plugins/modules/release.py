#!/usr/bin/python
"""Ansible module: record a release of an app, and give it the traffic."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases import Release, now

DOCUMENTATION = r"""
module: release
short_description: Record a release, switch the traffic to it, or note that it failed
description:
  - O(state=recorded) records the facts about a release before it starts.
  - O(state=live) switches the traffic to the release by renaming symbolic links. nginx opens the
    socket behind its link for each request, so it needs no reload, and there is no moment without
    a release.
  - O(state=failed) records that the release never became healthy.
options:
  state:
    description: What to do.
    type: str
    choices: [recorded, live, failed]
    required: true
  id:
    description: Id of the release.
    type: str
    required: true
  dir:
    description: The app's folder on the server.
    type: path
    required: true
  record:
    description: For O(state=recorded), the facts to record.
    type: dict
    default: {}
  routes:
    description: Folder of the app's routes. Required for O(state=live).
    type: path
  protocol:
    description: The protocol that the release speaks. Required for O(state=live).
    type: str
    choices: [uwsgi, http]
  static:
    description: Folder of the app's static files. Required for O(state=live).
    type: path
  kept:
    description:
      - For O(state=live), ids of releases whose static files stay available, the latest first.
    type: list
    elements: str
    default: []
  slots:
    description: For O(state=live), in how many of these releases nginx looks for a file.
    type: int
    default: 5
  leaves:
    description: For O(state=live), id of the release that had the traffic before.
    type: str
    default: ""
  rolled_back:
    description: For O(state=live), whether that release is left because something is wrong with it.
    type: bool
    default: false
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Switch the traffic to the release
  release:
    state: live
    id: 0123456789ab
    dir: /opt/flask-vps/apps/shop
    routes: /opt/flask-vps/edge/routes/shop
    protocol: uwsgi
    static: /opt/flask-vps/edge/static/shop
"""

RETURN = r"""
record:
  description: The record of the release after this.
  type: dict
  returned: always
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["recorded", "live", "failed"],
                "required": True,
            },
            "id": {"type": "str", "required": True},
            "dir": {"type": "path", "required": True},
            "record": {"type": "dict", "default": {}},
            "routes": {"type": "path"},
            "protocol": {"type": "str", "choices": ["uwsgi", "http"]},
            "static": {"type": "path"},
            "kept": {"type": "list", "elements": "str", "default": []},
            "slots": {"type": "int", "default": 5},
            "leaves": {"type": "str", "default": ""},
            "rolled_back": {"type": "bool", "default": False},
        },
        required_if=[("state", "live", ("routes", "protocol", "static"))],
    )
    options = module.params
    release = Release(Path(options["dir"]), options["id"])
    if options["state"] == "live":
        changed = release.go_live(options)
    elif options["state"] == "failed":
        changed = release.write({**release.read(), "failed": now()})
    else:
        # A release that is deployed again keeps the facts of its first deployment.
        record = {**options["record"], **release.read()}
        changed = release.write(record)
    module.exit_json(changed=changed, record=release.read())


if __name__ == "__main__":
    main()
