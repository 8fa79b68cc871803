"""Filter that divides memory among the databases of a server."""

import sys
from pathlib import Path
from typing import Any

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from checks.memory import postgres_memory


class FilterModule:
    """Give the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filter."""
        return {"postgres_memory": postgres_memory}
