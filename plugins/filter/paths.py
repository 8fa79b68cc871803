"""Filter for the paths of this project's files on a server."""

import sys
from pathlib import Path
from typing import Any

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from module_utils.paths import SERVER_DIR


def server_path(path: str) -> str:
    """Return the absolute path on a server of a file that is named within the project's folder."""
    return f"{SERVER_DIR}/{path}"


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"server_path": server_path}
