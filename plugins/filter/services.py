"""Filters for the services beside an app."""

import sys
from pathlib import Path
from typing import Any

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from module_utils.services import (
    app_vault,
    service_files,
    service_kinds,
    service_leftovers,
    service_plans,
    unlisted_folders,
)


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "app_vault": app_vault,
            "service_files": service_files,
            "service_kinds": service_kinds,
            "service_leftovers": service_leftovers,
            "service_plans": service_plans,
            "unlisted_folders": unlisted_folders,
        }
