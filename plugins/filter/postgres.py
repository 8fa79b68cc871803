"""Filters for the Postgres of an app: its image, packages and locale."""

import sys
from pathlib import Path
from typing import Any

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from module_utils.postgres_settings import (
    PRELOADED,
    extension_packages,
    icu_locale,
    postgres_image,
)


def preloaded(extensions: list[str]) -> list[str]:
    """Pick the extensions that the server must load at its start."""
    return [name for name in PRELOADED if name in extensions]


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "extension_packages": extension_packages,
            "icu_locale": icu_locale,
            "postgres_image": postgres_image,
            "preloaded": preloaded,
        }
