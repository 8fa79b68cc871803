"""A page whose log, requests and accessibility are checked."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request

OUTPUT = Path(__file__).parents[3] / ".cache/browser"

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell")
OPTIONS = [
    "--headless",
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.localhost 127.0.0.1",
]

# A phone and a desktop, each with the light and the dark colour scheme.
VIEWS = [
    (width, height, scheme)
    for width, height in ((390, 844), (1280, 900))
    for scheme in ("light", "dark")
]


class Watched:
    """A page and its errors.

    Parameters
    ----------
    page : playwright.sync_api.Page
        A page that has not loaded anything yet.
    base : str
        URL of the site without a trailing slash.
    """

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", self._on_request)
        page.on("requestfailed", lambda r: self.complaints.append(f"failed: {r.url}"))

    def _on_console(self, message) -> None:  # Playwright's own type is private
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.base).netloc:
            self.complaints.append(f"elsewhere: {request.url}")

    def go(self, path: str) -> None:
        """Open a page and wait until it has loaded everything, lazy pictures included."""
        self.page.goto(self.base + path)
        self.settle()

    def settle(self) -> None:
        """Wait until everything is loaded, lazy pictures included."""
        for picture in self.page.locator("img").all():
            picture.scroll_into_view_if_needed()
        self.page.wait_for_load_state("networkidle")
        # A page reaches that state once, and a view may have asked for other pictures since.
        self.page.wait_for_function("[...document.images].every(image => image.complete)")
        self.page.evaluate("window.scrollTo(0, 0)")

    def barriers(self) -> list[str]:
        """List axe-core's findings of at least serious impact, by WCAG and best practices."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{v['id']} ({v['impact']}): {node['html'][:120]}"
            for v in found
            if v["impact"] in ("serious", "critical")
            for node in v["nodes"]
        ]

    def check(self) -> None:
        """Check for barriers, broken pictures, horizontal scrolling and logged errors."""
        assert self.barriers() == []
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
        assert self.page.evaluate(broken) == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert self.complaints == []

    def shoot(self, name: str) -> None:
        """Take a screenshot of the page in every view."""
        OUTPUT.mkdir(parents=True, exist_ok=True)
        before = self.page.viewport_size
        for width, height, scheme in VIEWS:
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.emulate_media(color_scheme=scheme)
            self.settle()
            # The colour schemes differ in contrast.
            assert self.barriers() == [], (name, width, scheme)
            assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            self.page.screenshot(path=OUTPUT / f"{name}-{width}-{scheme}.png", full_page=True)
        self.page.set_viewport_size(before)
