"""Filter that turns international domains into the form that DNS and certificates use."""

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from checks.domains import ascii_domain


def ascii_domains(apps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Convert the domains of apps to Punycode."""
    keys = ("domains", "redirect")
    try:
        return [
            app | {key: [ascii_domain(domain) for domain in app[key]] for key in keys if key in app}
            for app in apps
        ]
    except ValueError as error:
        raise AnsibleFilterError(f"ascii_domains: {error}") from error


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"ascii_domains": ascii_domains}
