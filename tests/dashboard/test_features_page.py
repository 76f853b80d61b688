from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from browser import visit
from report_data import VOCABULARY, columns, is_dead

COLUMNS = columns(130)
VALUES = {column["key"]: np.array(column["values"], dtype=float) for column in COLUMNS["columns"]}


def shown(page: Page) -> list[int]:
    """The features in the rows of the table."""
    return [int(text) for text in page.locator("tbody th").all_inner_texts()]


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("king", lambda token: "king" in token.lower()),
        (" KING ", lambda token: "king" in token.lower()),
        ('" King"', lambda token: token == " King"),
        ('"king"', lambda token: token == "king"),
        ("<script>", lambda token: "<script>" in token),
        ("שלום", lambda token: "שלום" in token),
    ],
)
def test_a_search_finds_the_features_of_a_token(page: Page, report: Path, query: str, matches: object) -> None:
    assert callable(matches)
    visit(page, report, "features.html")
    page.get_by_label("Token").fill(query)
    tokens = [index for index, token in enumerate(VOCABULARY) if isinstance(token, str) and matches(token)]
    expected = [
        feature
        for feature, (top, promoted) in enumerate(zip(COLUMNS["top_tokens"], COLUMNS["promoted"], strict=True))
        if set(tokens) & {*top, *promoted}
    ]
    assert shown(page) == expected[:50]
    assert count(page).startswith(f"{len(expected)} of 130 features")


@pytest.mark.parametrize("key", ["max", "nearest", "sigma"])
def test_a_heading_sorts_by_its_column(page: Page, report: Path, key: str) -> None:
    visit(page, report, "features.html")
    button = page.locator(f'thead [data-key="{key}"]')
    heading = page.locator(f'thead th:has([data-key="{key}"])')
    assert heading.get_attribute("aria-sort") is None
    button.click()
    assert heading.get_attribute("aria-sort") == "descending"
    # As written, with four digits.
    values = np.array([float(f"{value:.4g}") for value in VALUES[key]])
    assert shown(page) == np.argsort(-values, kind="stable")[:50].tolist()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert shown(page) == np.argsort(values, kind="stable")[:50].tolist()


@pytest.mark.parametrize("order", ["sort=predicate_f1", "sort=predicate_f1&up=1"])
def test_what_is_not_known_comes_last(page: Page, report: Path, order: str) -> None:
    visit(page, report, f"features.html#{order}&page=3")
    unknown = [feature for feature in range(130) if is_dead(feature) or feature % 7 == 0]
    assert len(unknown) == 30  # all of the third page
    assert shown(page) == unknown


def test_pages_of_fifty_rows(page: Page, report: Path) -> None:
    visit(page, report, "features.html")
    previous, following = (page.get_by_role("button", name=f"{which} page") for which in ("Previous", "Next"))
    assert shown(page) == list(range(50))
    expect(previous).to_be_disabled()
    following.click()
    following.click()
    assert shown(page) == list(range(100, 130))
    assert count(page) == "130 of 130 features, page 3 of 3"
    expect(following).to_be_disabled()
    previous.click()
    assert shown(page) == list(range(50, 100))


def test_ranges_narrow_the_table(page: Page, report: Path) -> None:
    visit(page, report, "features.html")
    page.get_by_label("alive only").check()
    assert count(page).startswith("118 of 130")  # 10, 20, ..., 120 are dead
    page.get_by_role("button", name="Add a range").click()
    expect(page.get_by_role("combobox", name="Column")).to_be_focused()
    page.get_by_label("from", exact=True).fill("0.1")
    assert shown(page) == [0, 1, 2, 3, 4]  # 0.5 / (1 + number) is 0.1 at 4
    page.get_by_label("to", exact=True).fill("0.2")
    assert shown(page) == [2, 3, 4]
    page.get_by_role("combobox", name="Column").select_option("first seen")
    assert count(page).startswith("0 of 130")
    page.get_by_role("button", name="Remove").click()
    assert count(page).startswith("118 of 130")


def test_a_view_is_an_address(page: Page, report: Path) -> None:
    visit(page, report, "features.html")
    page.get_by_label("Token").fill('" of"')
    page.locator('thead [data-key="density"]').click()
    page.locator('thead [data-key="density"]').click()
    page.get_by_label("alive only").check()
    page.get_by_role("button", name="Add a range").click()
    page.get_by_label("to", exact=True).fill("0.1")
    page.get_by_role("button", name="Next page").click()
    address, before = page.url, shown(page)
    assert before
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("tbody tr")
    assert shown(page) == before
    assert page.get_by_label("Token").input_value() == '" of"'
    assert page.get_by_label("alive only").is_checked()
    assert page.get_by_label("to", exact=True).input_value() == "0.1"
    assert page.url == address


@pytest.mark.parametrize("address", ["#sort=nothing&page=99&density=high..&q=%3Cb%3E", "#page=-3", "#page=x", "#%"])
def test_a_strange_address_does_no_harm(page: Page, report: Path, address: str) -> None:
    visit(page, report, f"features.html{address}")
    assert "of 130 features" in count(page)


def test_a_row_leads_to_its_feature_and_back(page: Page, report: Path) -> None:
    visit(page, report, "features.html#sort=density&up=1&alive=1")
    page.locator("tbody th a").first.click()
    expect(page.locator("h1")).to_have_text("Feature 129")
    page.go_back()
    expect(page.locator("#count")).to_have_text("118 of 130 features, page 1 of 3")


def test_the_text_of_tokens_is_literal(page: Page, report: Path) -> None:
    visit(page, report, "features.html")
    tokens = page.locator("tbody tr").nth(1).locator("td").first.locator(".token").all_inner_texts()
    assert tokens == [
        "<script>document.title='stolen'</script>",
        "</script><img src=x onerror=alert(1)>",
        "\"double\" 'single' \\ `back`",
        "&lt;&amp;&#x27;",
        "↵",
    ]
    assert "stolen" not in page.title()
