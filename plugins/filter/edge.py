"""Filters for the edge: its certificate authority, and what an app's own image may set."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The rules are shared with preflight.
sys.path.append(str(Path(__file__).parents[1]))
from checks import edge
from module_utils.acme import directory


def without_edge_variables(image: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of an image that the edge would act on, with empty values."""
    names = [line.partition("=")[0] for line in image["Config"].get("Env") or []]
    return dict.fromkeys(edge.edge_variables(names), "")


def edge_labels(image: Mapping[str, Any]) -> list[str]:
    """List the labels of an image that would make it a part of the edge."""
    return edge.edge_labels(image["Config"].get("Labels") or {})


def acme_directory(ca: str) -> str:
    """Return the URL of an authority's ACME directory."""
    return directory(ca)


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "acme_directory": acme_directory,
            "edge_labels": edge_labels,
            "without_edge_variables": without_edge_variables,
        }
