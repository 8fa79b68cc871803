"""Filters for the edge: its certificate authority, and what an app's own image may set there."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Rules that preflight has as well.
sys.path.append(str(Path(__file__).parents[1]))
from checks import edge
from module_utils.acme import directory


def without_edge_variables(image: Mapping[str, Any]) -> dict[str, str]:
    """Empty the variables of an image that the edge would obey."""
    names = [line.partition("=")[0] for line in image["Config"].get("Env") or []]
    return dict.fromkeys(edge.edge_variables(names), "")


def edge_labels(image: Mapping[str, Any]) -> list[str]:
    """Name the labels by which an image would be taken for a part of the edge."""
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
