"""A real browser on a report opened from the disk, and watched: nothing may go wrong, nothing may leave the folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
READY = "main:not([aria-busy])"
expect.set_options(timeout=20_000)  # a machine that does other work too


def chromium() -> str:
    """The program: $CHROMIUM, or the one that is found. Skips the test where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("needs Chromium: install it, or say where it is with CHROMIUM")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """One browser; closed at the end."""
    program = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Browser, folder: Path, **context: Any) -> Iterator[Page]:
    """A page for the report in `folder`; `context` is playwright's (viewport, color_scheme, ...).

    Raises:
        AssertionError: At the end, for an error in the console or of a script, and for a request of anything that is
            not a file in the folder.
    """
    wrong: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    def judge(request: Request) -> None:
        if not is_inside(request.url, folder):
            wrong.append(f"asked for {request.url}")

    with browser.new_context(**context) as opened:
        page = opened.new_page()
        page.set_default_timeout(30_000)
        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", judge)
        yield page
    assert not wrong, wrong


def is_inside(url: str, folder: Path) -> bool:
    """Whether it is a file below the folder, or data that the page carries itself."""
    return url.startswith((folder.as_uri() + "/", "data:", "blob:"))


def visit(page: Page, folder: Path, address: str) -> None:
    """Open a page of the report, such as `feature.html#3`, and wait until it is complete."""
    page.goto(f"{folder.as_uri()}/{address}")
    page.wait_for_selector(READY)


def accessibility(page: Page) -> list[str]:
    """What axe finds wrong: the rule and the elements."""
    from axe_playwright_python.sync_playwright import Axe

    # axe would read the style sheets anew, which the pages' policy refuses.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [f"{rule['id']}: {[node['html'][:160] for node in rule['nodes']]}" for rule in found]


def overflow(page: Page) -> int:
    """How many pixels of the page lie to the right of the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
