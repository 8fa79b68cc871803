"""A filter for the hints that the throwaway server ends with."""

from pathlib import Path
from typing import Any


def dev_environment(inventory: str, inventories: str, default: str = "local") -> str:
    """Return the option of make that selects an inventory."""
    path, folder = Path(inventory).resolve(), Path(inventories).resolve()
    if folder not in path.parents or path == folder / default:
        return ""
    return f" ENV={path.relative_to(folder)}"


class FilterModule:
    """Give the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filter."""
        return {"dev_environment": dev_environment}
