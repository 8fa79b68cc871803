"""Filters for the settings of a site: who may log in, and what nginx says about its lines."""

import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

REFUSAL = re.compile(r"nginx: \[emerg\] (?P<what>.*?)(?: in (?P<file>\S+):(?P<line>\d+))?$", re.M)


def logins(users: list[str], hashes: Mapping[str, Any]) -> str:
    """Write the users of a site and the hashes of their passwords as a file for nginx."""
    given = {str(name): str(value) for name, value in hashes.items()}
    lacking = [str(user) for user in users if not given.get(str(user))]
    if lacking:
        raise AnsibleFilterError(f"vault_basic_auth has no hash of {', '.join(lacking)}")
    return "".join(f"{user}:{given[str(user)]}\n" for user in users)


def nginx_refusal(message: str, text: str) -> str:
    """Shorten nginx's message about a file to its reason, and quote the line of the file."""
    found = REFUSAL.search(message)
    if not found:
        return message.strip()
    lines = text.splitlines()
    number = int(found["line"] or 0)
    if not 0 < number <= len(lines) or "/vhost.d/" not in found["file"]:
        return f"{found['what']}."
    return f"{found['what']}, at the line `{lines[number - 1].strip()}`."


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"logins": logins, "nginx_refusal": nginx_refusal}
