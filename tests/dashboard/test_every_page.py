"""What holds of every page: who can use it, where it works, and what it refuses."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from browser import READY, accessibility, overflow, visit, watched_page

PAGES = ["index.html", "features.html#density=0.05..", "feature.html#0", "feature.html#1", "feature.html#20"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", PAGES)
def test_axe_finds_nothing_and_a_phone_is_wide_enough(browser: Browser, report: Path, address: str, theme: str) -> None:
    with watched_page(browser, report, color_scheme=theme, reduced_motion="reduce") as page:
        visit(page, report, address)
        for summary in page.locator("summary").all():
            summary.click()
        if address == "index.html":
            page.wait_for_selector(".charts figure:last-child .main-svg")
        assert page.locator("html").get_attribute("data-theme") == theme
        assert accessibility(page) == []
        assert overflow(page) == 0
        page.set_viewport_size({"width": 360, "height": 740})
        assert overflow(page) == 0


def test_a_theme_is_chosen_and_kept(page: Page, report: Path) -> None:
    visit(page, report, "feature.html#3")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(paper) == "rgb(251, 250, 247)"
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(paper) == "rgb(22, 22, 21)"
    visit(page, report, "features.html")
    assert page.evaluate(paper) == "rgb(22, 22, 21)"
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(paper) == "rgb(251, 250, 247)"


def test_no_storage_is_no_harm(page: Page, report: Path) -> None:
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused') } })")
    visit(page, report, "index.html")
    page.get_by_role("button", name="Dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_the_keyboard_skips_to_the_content(page: Page, report: Path) -> None:
    visit(page, report, "features.html#q=of")
    page.locator("body").press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#q=of")


def test_the_header_leads_to_what_there_is(page: Page, report: Path) -> None:
    visit(page, report, "features.html")
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    expect(links).to_have_text(["Overview", "Features"])  # neither a map nor a comparison was made
    assert links.nth(1).get_attribute("aria-current") == "page"
    links.first.click()
    expect(page.locator("h1")).to_have_text("Overview")


@pytest.mark.parametrize(
    ("address", "missing"),
    [("index.html", "overview"), ("features.html", "columns"), ("feature.html#70", "features/0001")],
)
def test_a_missing_file_is_named(browser: Browser, report: Path, tmp_path: Path, address: str, missing: str) -> None:
    folder = tmp_path / "incomplete"
    shutil.copytree(report, folder)
    (folder / "data" / f"{missing}.js").unlink()
    page = browser.new_page()
    visit(page, folder, address)
    expect(page.get_by_role("alert")).to_have_text(
        f"data/{missing}.js cannot be read: is the folder of the report complete?"
    )
    page.close()


def test_a_damaged_file_is_named(browser: Browser, report: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(report, folder)
    path = folder / "data" / "columns.js"
    path.write_text(path.read_text(encoding="ascii")[:1000], encoding="ascii")
    page = browser.new_page()
    visit(page, folder, "features.html")
    expect(page.get_by_role("alert")).to_have_text("data/columns.js is damaged: write the report anew")
    page.close()


def test_without_scripts_a_line_says_so(browser: Browser, report: Path) -> None:
    with watched_page(browser, report, java_script_enabled=False) as page:
        page.goto(f"{report.as_uri()}/index.html")
        assert "These pages need JavaScript" in page.inner_text("body")


@pytest.mark.parametrize("address", ["index.html", "features.html", "feature.html#1"])
def test_the_policy_refuses_what_is_inline_or_remote(browser: Browser, report: Path, address: str) -> None:
    page = browser.new_page()
    visit(page, report, address)
    with serving(report.parent) as (host, asked):
        page.evaluate(
            """async (host) => {
                const script = (entries) => Object.assign(document.createElement("script"), entries);
                document.body.append(script({ textContent: "window.ran = true" }), script({ src: `${host}/a.js` }));
                await new Promise((done) => Object.assign(new Image(), { onerror: done, src: `${host}/a.png` }));
                await fetch(`${host}/a`).catch(() => null);
            }""",
            host,
        )
        assert page.evaluate("window.ran === undefined")
        assert asked == []
        page.request.get(f"{host}/seen")
        assert asked == ["/seen"]
    page.close()


def test_a_web_server_may_hold_it_in_a_subfolder(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    with serving(report.parent) as (host, asked):
        page.goto(f"{host}/{quote(report.name)}/features.html#q=of")
        page.wait_for_selector(READY)
        page.locator("tbody th a").first.click()
        page.wait_for_selector(".contexts")
        assert not failed
        assert f"/{quote(report.name)}/data/features/0000.js" in asked
    page.close()


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server: its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.path)

        def log_message(self, *_: object) -> None:
            """Not on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
