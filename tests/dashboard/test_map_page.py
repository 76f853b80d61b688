"""The maps, in a real browser: what is under the pointer is told and opened; colours, search and groups are right."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Position, expect

import map_data
import report_data
from browser import accessibility, overflow, visit, watched_page
from map_data import D_SAE

NUMBER = 118
"""How many features are alive, and so on the map."""
MEMBERS = {0: 27, 1: 33, 2: 26, 3: 32}
"""How many of them are 0, 1, 2, 3 mod 4: every tenth from 10 on is dead."""


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    with watched_page(browser, folder, viewport={"width": 1280, "height": 1000}) as opened:
        visit(opened, folder, "map.html")
        expect(opened.locator("#in-view")).to_contain_text("features in view")  # the map has come to rest
        yield opened


def place(canvas: Locator, x: float, y: float, width: float, height: float, left: float = 0) -> Position:
    """Where (x, y) is on a whole map of points from (left, 0) to (left + width, height): centred, 3 % of a margin."""
    box = canvas.bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) / (1.06 * max(width, height))
    return {"x": box["width"] / 2 + (x - left - width / 2) * scale, "y": box["height"] / 2 - (y - height / 2) * scale}


def of_feature(page: Page, feature: int) -> Position:
    """Where it is on the map `activation`."""
    line = NUMBER / 8
    return place(page.locator("canvas"), feature, feature % 4 * line, D_SAE - 1, 3 * line)


def hover(page: Page, position: Position) -> Locator:
    page.locator("canvas").hover(position=position)
    return page.locator(".tip")


def colour(page: Page, position: Position) -> str:
    """Of a pixel of the map, as the style sheet writes it."""
    r, g, b, _ = page.evaluate(
        """([x, y]) => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
          const canvas = document.querySelector("canvas");
          const ratio = canvas.width / canvas.clientWidth;
          resolve([...canvas.getContext("2d").getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data]);
        })))""",
        [position["x"], position["y"]],
    )
    return f"rgb({r}, {g}, {b})"


def colour_by(page: Page, key: str) -> None:
    page.get_by_role("combobox", name="Colour").select_option(key)


def fires_on_or_promotes(text: str) -> set[int]:
    """By another way than the page: over strings."""
    columns, vocabulary = report_data.columns(D_SAE), report_data.VOCABULARY
    wanted = {token for token, word in enumerate(vocabulary) if isinstance(word, str) and text in word.lower()}
    lists = zip(columns["top_tokens"], columns["promoted"], strict=True)
    return {j for j, (top, promoted) in enumerate(lists) if wanted & {*top, *promoted} and not report_data.is_dead(j)}


def test_the_pointer_tells_the_feature_below_it(page: Page) -> None:
    for feature in (0, 33, 129):
        tip = hover(page, of_feature(page, feature))
        expect(tip.locator(".name")).to_have_text(f"Feature {feature}")
        tokens = [report_data.VOCABULARY[token] for token in report_data.top_tokens(feature)[:5]]
        assert tip.locator(".token").all_text_contents() == tokens
        assert f"{0.5 / (1 + feature):.4g}" in tip.inner_text()
    assert hover(page, {"x": 5, "y": 5}).is_hidden()


def test_a_click_opens_the_feature(page: Page, folder: Path) -> None:
    page.locator("canvas").click(position=of_feature(page, 33))
    page.wait_for_url(f"{folder.as_uri()}/feature.html#33")


def test_a_drag_opens_nothing_and_moves_the_map(page: Page) -> None:
    start = of_feature(page, 33)
    box = page.locator("canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + start["x"], box["y"] + start["y"])
    page.mouse.down()
    page.mouse.move(box["x"] + start["x"] + 40, box["y"] + start["y"] + 25, steps=4)
    page.mouse.up()
    page.mouse.move(box["x"] + start["x"] + 41, box["y"] + start["y"] + 26)
    expect(page.locator(".tip .name")).to_have_text("Feature 33")
    assert "map.html" in page.url


def test_the_wheel_zooms_about_the_pointer(page: Page) -> None:
    position = of_feature(page, 33)
    hover(page, position)
    page.mouse.wheel(0, -600)
    hover(page, {"x": position["x"] + 1, "y": position["y"]})
    expect(page.locator(".tip .name")).to_have_text("Feature 33")
    expect(page.locator("#in-view")).not_to_have_text(f"{NUMBER} of {NUMBER} features in view")


def test_colours_are_those_of_the_legend(page: Page) -> None:
    dense, sparse = of_feature(page, 0), of_feature(page, 129)
    assert colour(page, dense) == "rgb(68, 1, 84)"  # viridis' dark end
    assert colour(page, sparse) == "rgb(181, 222, 43)"
    colour_by(page, "cluster")
    for feature in (33, 129, 4, 7):
        swatch = page.locator(f'[data-group="{feature % 4}"] .swatch')
        shown = swatch.evaluate("element => getComputedStyle(element).backgroundColor")
        assert colour(page, of_feature(page, feature)) == shown
    assert len({colour(page, of_feature(page, feature)) for feature in (4, 5, 6, 7)}) == 4
    page.wait_for_url("**colour=cluster**")


def test_what_is_not_known_has_a_colour_of_its_own(page: Page) -> None:
    colour_by(page, "predicate_f1")
    unknown = sum(j % 7 == 0 for j in range(D_SAE) if not report_data.is_dead(j))
    expect(page.locator("#legend")).to_contain_text(f"not known of {unknown}")
    assert colour(page, of_feature(page, 7)) == "rgb(170, 170, 170)"


def test_a_search_marks_and_lists_what_it_finds(page: Page) -> None:
    expected = fires_on_or_promotes("castle")
    assert 0 < len(expected) < NUMBER
    page.get_by_role("searchbox").fill("castle")
    expect(page.locator("#count")).to_have_text(f"{len(expected)} found")
    expect(page.locator("#in-view")).to_contain_text(f"{len(expected)} of {NUMBER} features in view")
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    assert {int(text) for text in page.locator("#list .feature").all_text_contents()} == expected
    missed = min(set(range(10)) - expected)
    assert hover(page, of_feature(page, missed)).is_hidden()


def test_a_group_is_shown_alone(page: Page) -> None:
    for cluster, count in MEMBERS.items():
        button = page.locator(f'[data-group="{cluster}"]')
        expect(button.locator("xpath=ancestor::tr/td[1]")).to_have_text(str(count))
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(button).to_be_focused()
        expect(page.locator("#in-view")).to_contain_text(f"{count} of {NUMBER} features in view")
    page.wait_for_url("**group=3**")
    page.locator('[data-group="3"]').click()
    expect(page.locator("#in-view")).to_contain_text(f"{NUMBER} of {NUMBER} features in view")


def test_the_list_falls_in_what_the_map_is_coloured_by(page: Page) -> None:
    colour_by(page, "sigma")
    expect(page.locator("#in-view")).to_contain_text("largest sigma")
    sigma = report_data.columns(D_SAE)["columns"][-1]["values"]
    alive = [j for j in range(D_SAE) if not report_data.is_dead(j)]
    first = sorted(alive, key=lambda j: -sigma[j])[:25]
    assert [int(text) for text in page.locator("#list .feature").all_text_contents()] == first


def test_the_address_says_what_is_shown(page: Page, folder: Path) -> None:
    visit(page, folder, "map.html#map=decoder&colour=kl&q=king")
    expect(page.get_by_role("combobox", name="Map")).to_have_value("decoder")
    expect(page.get_by_role("combobox", name="Colour")).to_have_value("kl")
    expect(page.get_by_role("searchbox")).to_have_value("king")
    page.get_by_role("button", name="Zoom in").click(click_count=3)
    page.wait_for_url("**at=**")
    expect(page.locator("#in-view")).to_contain_text("features in view")
    in_view, address = page.locator("#in-view").inner_text(), page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#in-view")).to_have_text(in_view)
    page.get_by_role("button", name="Show the whole map").click()
    page.wait_for_url(lambda url: "at=" not in url)


def test_the_keyboard_moves_and_zooms(page: Page) -> None:
    expect(page.locator("#in-view")).to_contain_text(f"{NUMBER} of {NUMBER} features in view")
    whole = page.locator("#in-view").inner_text()
    page.locator("canvas").focus()
    for _ in range(4):
        page.keyboard.press("+")
    expect(page.locator("#in-view")).not_to_have_text(whole)
    page.wait_for_url("**at=**")
    zoomed = page.url
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(lambda url: url != zoomed)
    page.keyboard.press("0")
    expect(page.locator("#in-view")).to_have_text(whole)


def test_a_finger_is_told_first_and_then_follows_a_link(browser: Browser, folder: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with watched_page(browser, folder, **phone) as page:
        visit(page, folder, "map.html")
        page.locator("canvas").tap(position=of_feature(page, 33))
        name = page.locator(".tip .name")
        told = name.inner_text()
        name.tap()
        page.wait_for_url(f"{folder.as_uri()}/feature.html#{told.removeprefix('Feature ')}")


def test_text_of_a_sample_is_shown_as_it_is(page: Page, folder: Path) -> None:
    visit(page, folder, "map.html#map=samples")
    expect(page.locator("#in-view")).to_contain_text("samples in view")
    corner = place(page.locator("canvas"), 0, 0, 39, 6)
    tip = hover(page, corner)
    assert tip.locator(".text").text_content() == "".join(report_data.SHOWN)
    page.locator("canvas").click(position=corner)
    tip.get_by_role("link", name="1", exact=True).click()
    page.wait_for_url(f"{folder.as_uri()}/feature.html#1")


def test_hostile_labels_and_tokens_are_text(page: Page) -> None:
    colour_by(page, "labels")
    names = page.locator("#groups-table button")
    assert [names.nth(i).inner_text() for i in (0, names.count() - 1)] == [map_data.LABEL, "none"]
    tip = hover(page, of_feature(page, 1))
    shown = tip.locator(".token").all_text_contents()
    assert shown == report_data.SHOWN[:5]


def test_the_numbers_of_the_map_are_explained(page: Page) -> None:
    rows = page.locator("#numbers tr")
    assert rows.nth(0).inner_text().split("\t") == ["silhouette", "0.4321", map_data.numbers()[0]["help"]]
    assert rows.nth(1).inner_text().split("\t") == ["trustworthiness", "–", map_data.numbers()[1]["help"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", ["map.html", "map.html#colour=cluster&q=king", "map.html#map=samples"])
def test_everyone_can_use_it(browser: Browser, folder: Path, theme: str, address: str) -> None:
    with watched_page(browser, folder, viewport={"width": 1280, "height": 800}, color_scheme=theme) as page:
        visit(page, folder, address)
        assert accessibility(page) == []
        page.set_viewport_size({"width": 360, "height": 740})
        assert overflow(page) == 0


def test_a_missing_map_is_named(browser: Browser, folder: Path, tmp_path: Path) -> None:
    incomplete = tmp_path / "incomplete"
    shutil.copytree(folder, incomplete)
    (incomplete / "data" / "maps" / "decoder.js").unlink()
    page = browser.new_page()
    visit(page, incomplete, "map.html")
    page.get_by_role("combobox", name="Map").select_option("decoder")
    alert = page.get_by_role("alert").first
    expect(alert).to_have_text("data/maps/decoder.js cannot be read: is the folder of the report complete?")
    page.close()


def test_a_theme_changes_the_map(page: Page) -> None:
    corner = Position(x=3.0, y=3.0)
    light = colour(page, corner)
    page.get_by_role("button", name="Dark").click()
    assert colour(page, corner) != light
    assert colour(page, of_feature(page, 0)) == "rgb(253, 231, 37)"  # viridis' bright end
