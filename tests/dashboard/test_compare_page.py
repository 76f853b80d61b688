"""The comparison, in a real browser: pairs, a threshold, what only one has, and both on one map."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Position, expect

import report_data
from browser import accessibility, overflow, visit, watched_page
from map_data import D_SAE

MINE, OTHER = "run <b>1</b>", "run <i>2</i>"


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    with watched_page(browser, folder, viewport={"width": 1280, "height": 1000}) as opened:
        visit(opened, folder, "compare.html")
        yield opened


def position(page: Page, feature: int, run: int) -> Position:
    """Of a feature on the map: those of this run lie at (feature, 0), the other's at (feature, 50)."""
    box = page.locator("canvas").bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) / (1.06 * (D_SAE - 1))
    return {
        "x": box["width"] / 2 + (feature - (D_SAE - 1) / 2) * scale,
        "y": box["height"] / 2 - (50 * run - 25) * scale,
    }


def hover(page: Page, feature: int, run: int) -> Locator:
    page.locator("canvas").hover(position=position(page, feature, run))
    return page.locator(".tip")


def set_threshold(page: Page, value: float) -> None:
    page.locator("#threshold").fill(str(value))


@pytest.mark.parametrize(("threshold", "matched"), [(0.7, 31), (0.9, 11), (1, 1), (0, 90)])
def test_the_threshold_counts_pairs(page: Page, threshold: float, matched: int) -> None:
    set_threshold(page, threshold)
    expect(page.locator("#matches")).to_contain_text(f"{matched} of 90 pairs")
    expect(page.locator("#pairs-title")).to_have_text(f"Matched features: {matched}")


def test_only_lists_follow_the_threshold(page: Page) -> None:
    expect(page.locator("#only-mine-title")).to_have_text(f"Only in {MINE}: 40")
    expect(page.locator("#only-other-title")).to_have_text(f"Only in {OTHER}: 10")
    set_threshold(page, 0.47)  # feature j from 90 on is at j / 200
    expect(page.locator("#only-mine-title")).to_have_text(f"Only in {MINE}: 4")
    assert page.locator("#only-mine .feature").all_text_contents() == ["90", "91", "92", "93"]
    assert page.locator("#only-other .feature").nth(0).get_attribute("href") == "feature.html#other/90"
    expect(page.locator("#note-mine")).to_have_text("")
    set_threshold(page, 0.8)
    expect(page.locator("#note-mine")).to_have_text("Only those below 0.70 are known.")


def test_pairs_fall_and_rise_and_lead_to_both_pages(page: Page) -> None:
    first = page.locator("#pairs tbody tr").nth(0)
    expect(first.locator("td").nth(0)).to_have_text("1")
    page.locator("#pairs [aria-sort] button").click()
    expect(page.locator("#pairs [aria-sort]")).to_have_attribute("aria-sort", "ascending")
    expect(first.locator("td").nth(0)).to_have_text("0.7")
    links = first.locator(".feature")
    hrefs = [links.nth(0).get_attribute("href"), links.nth(1).get_attribute("href")]
    assert hrefs == ["feature.html#30", "feature.html#other/30"]
    page.wait_for_url("**up=1**")


def test_more_pairs_are_shown_when_asked_for(page: Page) -> None:
    expect(page.locator("#pairs tbody tr")).to_have_count(25)
    page.locator("#more-pairs").click()
    expect(page.locator("#pairs tbody tr")).to_have_count(31)
    assert page.locator("#more-pairs").is_hidden()


def test_contexts_of_a_pair_stand_side_by_side(page: Page, folder: Path) -> None:
    page.get_by_role("button", name="Contexts of 1 and 1").click()
    sides = page.locator("#pair-sides > div")
    expect(page.locator("#pair-title")).to_be_focused()
    expect(sides).to_have_count(2)
    for side in (sides.nth(0), sides.nth(1)):
        expect(side.locator("li")).to_have_count(6)
        assert side.locator("li").nth(0).text_content() == "".join(report_data.SHOWN)
    page.wait_for_url("**pair=1-1**")
    page.goto("about:blank")
    visit(page, folder, "compare.html#pair=5-5&threshold=0.9")
    expect(page.locator("#pair-title")).to_have_text("Side by side: cosine 0.95")
    expect(page.locator("#matches")).to_contain_text("11 of 90 pairs")


def test_a_feature_without_a_page_says_so(page: Page) -> None:
    bare = report_data.BARE
    page.get_by_role("button", name=f"Contexts of {bare} and {bare}").click()
    expect(page.locator("#pair-sides").get_by_text("It has no page in this report.")).to_have_count(2)


def test_the_map_tells_of_a_feature_and_its_match(page: Page) -> None:
    tip = hover(page, 5, run=0)
    expect(tip.locator(".name")).to_have_text(f"Feature 5 of {MINE}")
    expect(tip).to_contain_text("matches 5")
    expect(tip).to_contain_text("0.95")
    expect(hover(page, 95, run=1).locator(".name")).to_have_text(f"Feature 95 of {OTHER}")
    expect(page.locator(".tip")).to_contain_text("none")


def test_a_click_opens_the_page_of_the_right_run(page: Page, folder: Path) -> None:
    page.locator("canvas").click(position=position(page, 12, run=1))
    page.wait_for_url(f"{folder.as_uri()}/feature.html#other/12")


def test_a_run_can_be_hidden(page: Page) -> None:
    hover(page, 5, run=1)
    expect(page.locator(".tip")).to_be_visible()
    page.get_by_role("checkbox", name=OTHER).uncheck()
    page.mouse.move(0, 0)
    hover(page, 5, run=1)
    expect(page.locator(".tip")).to_be_hidden()
    hover(page, 5, run=0)
    expect(page.locator(".tip")).to_be_visible()


def test_those_with_a_match_can_be_put_back(page: Page) -> None:
    page.get_by_role("checkbox", name="only those").check()
    hover(page, 5, run=0)
    expect(page.locator(".tip")).to_be_hidden()
    hover(page, 60, run=0)
    expect(page.locator(".tip .name")).to_have_text(f"Feature 60 of {MINE}")


def test_a_search_finds_in_both(page: Page) -> None:
    page.get_by_role("searchbox").fill("script")  # which the hostile feature alone fires on
    expect(page.locator("#pairs-title")).to_have_text("Matched features: 1")
    assert page.locator("#pairs .feature").all_text_contents() == ["1", "1"]
    expect(page.locator("#count")).to_have_text("1 and 1 found")
    hover(page, 5, run=0)
    expect(page.locator(".tip")).to_be_hidden()
    hover(page, 1, run=1)
    expect(page.locator(".tip")).to_be_visible()


def test_numbers_stand_side_by_side(page: Page) -> None:
    rows = page.locator("#numbers tr")
    assert rows.nth(0).inner_text().split("\t") == ["", MINE, OTHER, "what it is"]
    assert rows.nth(1).inner_text().split("\t") == ["explained variance", "0.8123", "0.75", "1 - FVU"]
    assert rows.nth(2).inner_text().split("\t") == ["mean sigma", "0.5", "–", "of a <vSAE>"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everyone_can_use_it(browser: Browser, folder: Path, theme: str) -> None:
    with watched_page(browser, folder, viewport={"width": 1280, "height": 800}, color_scheme=theme) as page:
        visit(page, folder, "compare.html#pair=1-1&q=king")
        assert accessibility(page) == []
        page.set_viewport_size({"width": 360, "height": 740})
        assert overflow(page) == 0
