"""The site in a browser: the public pages, then the owner's changes.

To test a site that was started by hand::

    BROWSER_URL=http://localhost:5000 BROWSER_FLASK="flask --app my_flask_webpage" pytest ...
"""

import dataclasses
import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, OPTIONS, Watched
from conftest import Site
from playwright.sync_api import Browser, expect, sync_playwright

PHOTOGRAPH = "app/src/my_flask_webpage/resource/images/lantern-night.jpg"

PAGES = {
    "start": "/",
    "projects": "/projects/",
    "project": "/projects/tidewater",
    "imprint": "/imprint",
    "privacy": "/privacy",
    "messages": "/messages",
    "login": "/login",
}


@dataclasses.dataclass
class Owner:
    """The owner's e-mail address and password."""

    email: str
    password: str


@pytest.fixture(scope="session")
def base_url(request: pytest.FixtureRequest) -> str:
    """The site's address."""
    if "BROWSER_URL" in os.environ:
        return os.environ["BROWSER_URL"]
    site: Site = request.getfixturevalue("site")
    return f"https://{site.domain}:{site.https_port}"


@pytest.fixture(scope="session")
def owner(base_url: str, request: pytest.FixtureRequest) -> Iterator[Owner]:
    """The owner's account, created as documented."""
    if "BROWSER_FLASK" in os.environ:
        flask = shlex.split(os.environ["BROWSER_FLASK"])
    else:
        site: Site = request.getfixturevalue("site")
        web = next(n for n in site.containers() if "my_flask_webpage-" in n and "-web-" in n)
        flask = ["docker", "exec", "-i", site.server, "docker", "exec", "-i", web, "flask"]
    found = Owner(f"{secrets.token_hex(4)}@example.org", secrets.token_urlsafe(16))
    add = [*flask, "user", "add", found.email, "--password-file", "-"]
    subprocess.run(add, input=found.password, text=True, check=True)
    yield found
    subprocess.run([*flask, "user", "remove", found.email], check=True)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Browser, base_url: str) -> Iterator[Watched]:
    """A visitor with an empty cache."""
    # Other tests check certificates; the browser does not trust the test CA.
    context = chromium.new_context(
        ignore_https_errors=True, viewport={"width": 1280, "height": 900}, locale="en-GB"
    )
    context.set_default_timeout(20_000)
    yield Watched(context.new_page(), base_url)
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound_and_is_shown_in_every_view(visitor: Watched, name: str) -> None:
    visitor.go(PAGES[name])
    visitor.check()
    visitor.shoot(name)
    assert visitor.complaints == []


def test_watching_sees_what_is_wrong(visitor: Watched) -> None:
    """Negative control for all checks of pages."""
    visitor.go("/imprint")
    # The page was idle before, so only the complaint tells that the picture was asked for.
    with visitor.page.expect_console_message(lambda message: "404" in message.text):
        visitor.page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "document.title = 'inline'";
                document.body.append(script);
                const image = document.createElement("img");
                image.src = "/no-such-picture.webp";
                document.querySelector("main").append(image);
            }"""
        )
    assert any("image-alt" in barrier for barrier in visitor.barriers())
    assert any("404" in complaint for complaint in visitor.complaints)
    assert any("Content Security Policy" in complaint for complaint in visitor.complaints)
    assert visitor.page.title() != "inline"


def test_unknown_page_leads_back(visitor: Watched) -> None:
    visitor.go("/no-such-page")
    assert visitor.barriers() == []
    visitor.shoot("error")
    # The browser logs the status 404 itself.
    assert all("404" in complaint for complaint in visitor.complaints)
    visitor.page.get_by_role("link", name="Go to the start page").click()
    expect(visitor.page).to_have_url(f"{visitor.base}/")


def test_site_is_used_with_the_keyboard(visitor: Watched) -> None:
    visitor.go("/")
    page = visitor.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="See the projects")).to_be_focused()
    page.get_by_role("link", name="Tidewater").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tidewater")


def test_phone_loads_small_pictures(visitor: Watched) -> None:
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.go("/")
    chosen = visitor.page.evaluate("[...document.images].map(i => i.currentSrc)")
    assert chosen
    assert all(address.endswith("-480.webp") for address in chosen)


def test_visitor_leaves_a_message(visitor: Watched) -> None:
    visitor.go("/messages")
    body = f"Kind words, {secrets.token_hex(4)}"
    visitor.page.get_by_label("Your name").fill("Ada")
    visitor.page.get_by_role("textbox", name="Message").fill(body)
    visitor.page.get_by_role("button", name="Send message").click()
    expect(visitor.page.get_by_role("status")).to_have_text(
        "Thank you. Your message is shown below."
    )
    expect(visitor.page.get_by_text(body)).to_be_visible()
    visitor.check()


def picture() -> bytes:
    """Return a photograph that is rotated, with the orientation in its metadata."""
    data = (Path(__file__).parents[3] / PHOTOGRAPH).read_bytes()
    # Exif 2.32, section 4.5: a TIFF with one entry, Orientation (0x0112); the value 6 is a quarter
    # turn to the right.
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    tiff = b"MM\x00*\x00\x00\x00\x08" + b"\x00\x01" + entry + b"\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def test_owner_logs_in_edits_uploads_and_logs_out(visitor: Watched, owner: Owner) -> None:
    page = visitor.page
    visitor.go("/internal/messages")
    expect(page).to_have_url(re.compile(r"/login\?next="))

    def log_in(password: str) -> None:
        page.get_by_label("E-mail").fill(owner.email)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()

    log_in("wrong password")
    expect(page.get_by_role("alert")).to_have_text("E-mail or password is wrong.")
    visitor.shoot("login-refused")
    visitor.complaints.clear()  # the browser logs the status 400
    log_in(owner.password)
    expect(page).to_have_url(f"{visitor.base}/internal/messages")
    visitor.check()
    visitor.shoot("internal-messages")

    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    (session,) = cookies.values()
    assert session["httpOnly"]
    assert session["sameSite"] == "Lax"
    assert session["secure"] == visitor.base.startswith("https")

    title = f"Bridge {secrets.token_hex(4)}"
    visitor.go("/internal/")
    page.get_by_role("link", name="New project").click()
    visitor.check()
    visitor.shoot("internal-new")
    page.get_by_label("Title").fill(title)
    page.get_by_label("Period").fill("2026")
    page.get_by_label("Summary").fill("A bridge over calm water.")
    page.get_by_role("textbox", name="Text").fill("First paragraph.\n\nSecond paragraph.")
    page.get_by_label("Links").fill("Website | https://example.org/bridge")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("is on the site")

    upload = {"name": "bridge.jpg", "mimeType": "image/jpeg", "buffer": picture()}
    page.locator("#file").set_input_files(upload)
    page.get_by_label("What it shows").fill("A lantern on its side")
    page.get_by_label("Caption").fill("Calm water")
    page.get_by_role("button", name="Add picture").click()
    expect(page.get_by_role("status")).to_have_text("The picture is on the site.")
    visitor.settle()
    visitor.check()
    visitor.shoot("internal-project")

    page.get_by_role("link", name="Calm water").click()
    page.get_by_label("Credit").fill("Ada")
    visitor.settle()
    visitor.check()
    visitor.shoot("internal-image")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("The changes are on the site.")

    page.get_by_role("link", name="Look at its page").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.get_by_text("Second paragraph.")).to_be_visible()
    expect(page.get_by_text("Picture: Ada")).to_be_visible()
    # The picture was turned upright.
    size = page.get_by_alt_text("A lantern on its side")
    assert (size.get_attribute("width"), size.get_attribute("height")) == ("1067", "1600")
    visitor.settle()
    visitor.check()

    visitor.go("/internal/")
    visitor.check()
    visitor.shoot("internal")
    names = page.locator(".rows h3")
    place = names.all_text_contents().index(title)
    page.get_by_role("button", name=f"Move {title} up").click()
    expect(names.nth(place - 1)).to_have_text(title)

    page.get_by_role("link", name=f"Delete {title}").click()
    visitor.check()
    visitor.shoot("internal-delete")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_have_text("The project is off the site.")

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status")).to_have_text("You are logged out, on all your devices.")
    visitor.check()
    visitor.go("/internal/")
    expect(page).to_have_url(re.compile(r"/login\?next="))
    # The browser has cached nothing of the internal area.
    page.go_back()
    page.go_back()
    expect(page.get_by_text("New project")).to_have_count(0)


def test_memory_was_enough(site: Site) -> None:
    """Run last: neither the `flask user` command nor the upload ran out of memory."""
    full = [name for name, found in site.containers().items() if found["State"]["OOMKilled"]]
    assert full == []
