#!/usr/bin/python
"""Ansible module: record a release of an app, and give it the traffic."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases import Release, now

DOCUMENTATION = r"""
module: release
short_description: Record a release, give it the traffic, or note that it failed
description:
  - C(recorded) writes down what is known of a release before it starts.
  - C(live) gives it the traffic by renaming links, one rename each. nginx opens the socket behind
    its link at each request, so there is nothing to reload and no instant without a release.
  - C(failed) notes that it never got well.
options:
  state: {description: What to do., type: str, choices: [recorded, live, failed], required: true}
  id: {description: The release., type: str, required: true}
  dir: {description: The app's folder on the server., type: path, required: true}
  record: {description: For C(recorded), what to write down., type: dict, default: {}}
  routes: {description: For C(live), folder of the app's routes., type: path}
  link: {description: For C(live), name of the link that nginx goes by., type: str}
  static: {description: For C(live), folder of the app's static files., type: path}
  kept:
    description: For C(live), releases whose static files stay reachable, the latest first.
    type: list
    elements: str
    default: []
  slots: {description: For C(live), how many of them nginx looks through., type: int, default: 5}
  leaves: {description: For C(live), the release that had the traffic., type: str, default: ""}
  rolled_back:
    description: For C(live), whether it is left because something is wrong with it.
    type: bool
    default: false
author: flask-vps maintainers
"""

EXAMPLES = r"""
- name: Give the release the traffic
  release:
    state: live
    id: 0123456789ab
    dir: /opt/flask-vps/apps/shop
    routes: /opt/flask-vps/edge/routes/shop
    link: current
    static: /opt/flask-vps/edge/static/shop
"""

RETURN = r"""
record: {description: What is written down of the release now., type: dict, returned: always}
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
            "link": {"type": "str"},
            "static": {"type": "path"},
            "kept": {"type": "list", "elements": "str", "default": []},
            "slots": {"type": "int", "default": 5},
            "leaves": {"type": "str", "default": ""},
            "rolled_back": {"type": "bool", "default": False},
        },
        required_if=[("state", "live", ("routes", "link", "static"))],
    )
    options = module.params
    release = Release(Path(options["dir"]), options["id"])
    if options["state"] == "live":
        changed = release.go_live(options)
    elif options["state"] == "failed":
        changed = release.write({**release.read(), "failed": now()})
    else:
        # Who made it, and from what, is a fact of its first time.
        record = {**options["record"], **release.read()}
        changed = release.write(record)
    module.exit_json(changed=changed, record=release.read())


if __name__ == "__main__":
    main()
