"""The report of the throwaway server."""

import pytest
from dev import dev_environment


@pytest.mark.parametrize(
    ("inventory", "said"),
    [
        ("/site/inventory/local", ""),
        ("/site/inventory/vagrant", " ENV=vagrant"),
        ("/site/playbooks/../inventory/mine", " ENV=mine"),
        ("/site/inventory/team/mine", " ENV=team/mine"),
        ("/site/molecule/shared/inventory", ""),
    ],
)
def test_the_commands_name_the_inventory_in_use(inventory: str, said: str) -> None:
    assert dev_environment(inventory, "/site/playbooks/../inventory") == said
