"""A report as `vsae analyze` writes it of a real run, in a real browser: every page, and from one to the next."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from browser import accessibility, visit, watched_page
from vsae_lightning.cli import main
from vsae_lightning.dashboard.data_files import read_data

PAGES = ("index.html", "features.html", "feature.html#3", "feature.html#other/3", "map.html", "compare.html")


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "report"
    main(["analyze", str(run), "--against", str(run), "--tokens", "800", "--output", str(folder)])
    return folder


@pytest.mark.parametrize("address", PAGES)
def test_every_page_opens_and_everyone_can_use_it(address: str, browser: Browser, written: Path) -> None:
    with watched_page(browser, written) as page:
        visit(page, written, address)
        expect(page.get_by_role("alert")).to_have_count(0)
        assert accessibility(page) == []


def test_from_a_search_to_a_feature_and_to_its_nearest(browser: Browser, written: Path) -> None:
    table, tokens = read_data(written, "columns"), read_data(written, "vocabulary")["tokens"]
    densities = next(column["values"] for column in table["columns"] if column["key"] == "density")
    wanted = max(range(len(densities)), key=lambda feature: densities[feature])
    with watched_page(browser, written) as page:
        visit(page, written, "features.html")
        page.get_by_role("searchbox").fill(f'"{tokens[table["top_tokens"][wanted][0]]}"')
        page.get_by_role("button", name="density", exact=True).click()
        page.get_by_role("link", name=str(wanted), exact=True).first.click()
        expect(page.locator("h1")).to_have_text(f"Feature {wanted}")
        nearest = read_data(written, f"features/{wanted // 64:04d}")["features"][wanted % 64]["near_decoder"][0][0]
        page.locator("section", has_text="Nearest by decoder").get_by_role("link").first.click()
        expect(page.locator("h1")).to_have_text(f"Feature {nearest}")


def test_a_run_beside_itself_has_every_living_feature_in_a_pair(browser: Browser, written: Path) -> None:
    pairs = read_data(written, "compare")["pairs"]
    assert all(mine == other and cosine == 1 for mine, other, cosine in pairs)
    with watched_page(browser, written) as page:
        visit(page, written, "compare.html")
        expect(page.locator("#matches")).to_contain_text(f"{len(pairs)} of {len(pairs)} pairs")
