"""Fixtures for contract tests. They need an engine and the images named in lab.py."""

import pytest
from lab import Lab


@pytest.fixture(scope="module")
def lab():
    """The containers of a module; removed at its end."""
    laboratory = Lab()
    try:
        yield laboratory
    finally:
        laboratory.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the containers' logs when a test fails."""
    report = (yield).get_result()
    laboratory = getattr(item, "funcargs", {}).get("lab")
    if report.failed and laboratory:
        for name, text in laboratory.logs():
            report.sections.append((f"container {name}", text))
