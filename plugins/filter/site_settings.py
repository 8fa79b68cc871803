"""Filters for the settings of a site: who may log in, and what nginx says about its lines."""

import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

# With the date and the number of the process in a log, without them on a terminal.
REFUSAL = re.compile(
    r"\[emerg\] (?:\d+#\d+: )?(?P<what>.*?)(?: in (?P<file>\S+):(?P<line>\d+))?$", re.MULTILINE
)


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
    if not found["file"]:
        return f"{found['what']}."
    lines, number = text.splitlines(), int(found["line"])
    folder, _, name = found["file"].rpartition("/")
    is_here = folder.endswith("vhost.d") and not name.endswith("_location_override")
    if not is_here or number > len(lines):
        return f"{found['what']}, in {name}, line {number}."
    return f"{found['what']}, at the line `{lines[number - 1].strip()}`."


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"logins": logins, "nginx_refusal": nginx_refusal}
