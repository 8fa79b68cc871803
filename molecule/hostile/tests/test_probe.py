"""The tests' own means work: without them the other tests could not fail."""

import hostile
import pytest
from conftest import Site


@pytest.mark.parametrize("domain", [hostile.PROBE, hostile.PROBE_HTTP])
def test_an_app_runs_what_it_is_told(site: Site, domain: str) -> None:
    assert hostile.run_inside(site, "import os; print(6 * 7)", domain) == "42\n"
