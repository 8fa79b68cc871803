"""What the tests of this scenario share."""

from conftest import Answer, Site

PROBE = "probe.localhost"
PROBE_HTTP = "probe-http.localhost"


def run_inside(site: Site, code: str, domain: str = PROBE) -> str:
    """Run Python code inside an app's container, by the app itself, and return what it prints."""
    answer: Answer = site.named(domain).request("/run", "POST", code)
    assert answer.status == 200, answer
    return answer.body
