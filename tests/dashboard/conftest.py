"""One browser for the tests of a file, and a report of made-up features."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

import map_data
from browser import running_browser, watched_page
from report_data import write_report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not kept for the session: playwright's loop would be in the way of tests that start one of their own."""
    with running_browser() as started:
        yield started


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report of 130 features."""
    folder = tmp_path_factory.mktemp("a report") / "it's #1 100%"  # which an address has to escape
    folder.mkdir()
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a report with maps, and with another run beside it; of 130 features too."""
    made = tmp_path_factory.mktemp("a report") / "it's #1 100%"
    made.mkdir()
    map_data.write_map_report(made)
    return made


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """For the report; the test fails where anything goes wrong in it."""
    with watched_page(browser, report) as opened:
        yield opened
