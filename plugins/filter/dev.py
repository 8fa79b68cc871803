"""A filter for what the throwaway server's report says."""

from pathlib import Path
from typing import Any


def dev_environment(inventory: str, inventories: str, default: str = "local") -> str:
    """
    Say how ``make`` is told which inventory is meant.

    Parameters
    ----------
    inventory : str
        Folder of the inventory in use.
    inventories : str
        Folder of all that ``make`` knows.
    default : str, optional
        The one that it takes by itself.

    Returns
    -------
    str
        Such as `` ENV=vagrant``, with the space before it; empty for the default, and for an
        inventory that stands elsewhere.
    """
    path, folder = Path(inventory).resolve(), Path(inventories).resolve()
    if folder not in path.parents or path == folder / default:
        return ""
    return f" ENV={path.relative_to(folder)}"


class FilterModule:
    """Give the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filter."""
        return {"dev_environment": dev_environment}
