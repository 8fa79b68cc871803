"""Filter for the names of what an app has in a server's Docker."""

import sys
from pathlib import Path
from typing import Any

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from module_utils.names import Names


def docker_names(app: str, release: str = "") -> dict[str, str]:
    """Return the names of an app's projects, containers, networks and images."""
    names = Names(app)
    of_release = {"image": names.image(release), "project": names.release(release)}
    return {**names.derived(), **(of_release if release else {})}


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"docker_names": docker_names}
