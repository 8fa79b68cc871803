"""The tests can run code inside the apps; otherwise other tests would check nothing."""

import hostile
import pytest
from conftest import Site


@pytest.mark.parametrize("domain", [hostile.PROBE, hostile.PROBE_HTTP])
def test_an_app_runs_what_it_is_told(site: Site, domain: str) -> None:
    assert hostile.run_inside(site, "import os; print(6 * 7)", domain) == "42\n"
