import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browser import visit, watched_page
from report_data import SHOWN, columns, feature, scores, write_report


def section(page: Page, title: str) -> list[str]:
    """The rows of the list with this heading."""
    return (
        page.locator("section", has=page.get_by_role("heading", name=title, exact=True))
        .locator("tbody tr")
        .all_inner_texts()
    )


def test_hostile_text_is_shown_literally(page: Page, report: Path) -> None:
    visit(page, report, "feature.html#1")
    assert page.locator(".contexts .text").first.inner_text() == "".join(SHOWN)
    assert page.title() == "Feature 1 · run <b>1</b>"
    assert page.locator("main script, main img, main i").count() == 0


def test_tokens_are_marked_by_their_value(page: Page, report: Path) -> None:
    visit(page, report, "feature.html#1")
    marks = page.locator(".contexts .text").first.locator("mark")
    assert marks.all_inner_texts() == [SHOWN[0], "↵", " שלום", "👑"]
    assert [mark.get_attribute("title") for mark in marks.all()] == ["6", "2", "−1", "3"]
    strengths = [mark.evaluate("mark => mark.style.getPropertyValue('--strength')") for mark in marks.all()]
    assert strengths == ["1.000", "0.333", "0.167", "0.500"]
    assert [mark.get_attribute("class") for mark in marks.all()] == ["fires peak", "fires", "fires negative", "fires"]
    assert page.locator(".contexts .unseen").nth(1).inner_text().startswith("Fires on: queen 5.833, ")


def test_contexts_go_from_the_strongest_to_weak_ones(page: Page, report: Path) -> None:
    visit(page, report, "feature.html")
    headings = page.locator("section h3").all_inner_texts()
    assert headings == [
        "Strongest 4.2 to 6",
        "5 of 5 4.8 to 6",
        "4 of 5 3.6 to 4.8",
        "3 of 5 2.4 to 3.6",
        "2 of 5 1.2 to 2.4",
        "1 of 5 0 to 1.2",
    ]
    assert [group.locator("li").count() for group in page.locator(".contexts").all()] == [12, 3, 3, 3, 3, 3]
    assert page.locator(".contexts .value").first.inner_text().split() == ["μ", "6", "σ", "0.25"]
    assert page.locator(".contexts .origin").all_inner_texts()[:3] == ["trained on", "held out", "held out"]


def test_what_it_does_and_what_is_like_it(page: Page, report: Path) -> None:
    visit(page, report, "feature.html#0")
    assert section(page, "Tokens it promotes")[:2] == [" king\t2.5", " queen\t2.25"]
    assert section(page, "Tokens it suppresses")[4] == "↵\t−1.5"
    assert [row.split()[0] for row in section(page, "Nearest by decoder")] == ["1", "2", "3", "4", "5"]
    assert section(page, "Fires together with")[0].endswith("0.3")
    bars = page.locator(".bars .bar title").all_text_contents()
    assert bars[:2] == ["0 to 0.3: 4,000 rows", "0.3 to 0.6: 2,000 rows"]
    assert len(bars) == 20
    expect(page.locator(".rule")).to_have_text("the token is one of ' king', '<i>'")
    facts = page.locator("#feature > .facts div").all_inner_texts()
    assert facts[:2] == ["density\n0.5", "max\n6"]
    assert "rule F1\n–" in facts


def test_an_explanation_is_shown_where_there_is_one(page: Page, report: Path) -> None:
    visit(page, report, "feature.html#0")
    expect(page.locator(".explanation")).to_have_text("words for <royalty>")
    facts = page.locator("section", has_text="Explanation").locator(".facts div").all_inner_texts()
    assert facts == ["detection\n0.81", "fuzzing\n–", "examples\n20"]
    page.get_by_role("link", name="Next").click()
    expect(page.locator("h1")).to_have_text("Feature 1")
    expect(page.locator(".explanation")).to_have_count(0)


def test_to_the_next_and_by_number(page: Page, report: Path) -> None:
    visit(page, report, "feature.html#63")
    page.get_by_role("link", name="Next").click()  # in the next file of data
    expect(page.locator("h1")).to_have_text("Feature 64")
    expect(page).to_have_title("Feature 64 · run <b>1</b>")
    page.get_by_label("Number").fill("129")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Feature 129")
    expect(page.get_by_text("Next →")).to_have_attribute("aria-disabled", "true")
    page.go_back()
    page.go_back()
    expect(page.locator("h1")).to_have_text("Feature 63")
    page.locator("section", has_text="Nearest by decoder").get_by_role("link").nth(2).click()
    expect(page.locator("h1")).to_have_text("Feature 66")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("#20", "Dead: it fired on none of the tokens read."),
        ("#7", "This feature was not looked at closely: vsae analyze --features chooses which are."),
    ],
)
def test_features_without_contexts_say_why(page: Page, report: Path, address: str, message: str) -> None:
    visit(page, report, f"feature.html{address}")
    expect(page.locator("#feature .note").first).to_have_text(message)
    expect(page.locator("#feature > .facts dt").first).to_have_text("density")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("#130", "There is no feature 130: they go from 0 to 129."),
        ("#king", "#king names no feature: write #123, or #other/123."),
    ],
)
def test_an_address_of_no_feature_is_an_error(browser: Browser, report: Path, address: str, message: str) -> None:
    page = browser.new_page()
    visit(page, report, f"feature.html{address}")
    expect(page.get_by_role("alert")).to_have_text(message)
    page.evaluate("window.location.hash = '#5'")
    expect(page.locator("h1")).to_have_text("Feature 5")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.close()


def test_features_that_were_not_chosen_have_no_file(browser: Browser, tmp_path: Path) -> None:
    write = write_report(tmp_path, detailed=10)
    write("manifest", {**manifest_of(tmp_path), "detailed": list(range(10))})
    with watched_page(browser, tmp_path) as page:
        visit(page, tmp_path, "feature.html#100")
        expect(page.locator("#feature .note").first).to_have_text(re.compile("was not looked at closely"))


def test_a_feature_of_the_other_run(browser: Browser, tmp_path: Path) -> None:
    write = write_report(tmp_path)
    write("other/vocabulary", {"tokens": [f" other{number}" for number in range(40)]})
    write("other/columns", columns(20))
    write("other/features/0000", {"first": 0, "features": [feature(number, 20) for number in range(20)]})
    with watched_page(browser, tmp_path) as page:
        visit(page, tmp_path, "feature.html#other/0")
        expect(page.locator("#of")).to_have_text("Of the run that this one is compared with.")
        assert section(page, "Tokens it promotes")[0] == " other17\t2.5"
        assert page.locator(".explanation").count() == 0  # scores are of this run
        page.locator("section", has_text="Nearest by decoder").get_by_role("link").first.click()
        expect(page.locator("h1")).to_have_text("Feature 1")
        assert page.url.endswith("feature.html#other/1")


def test_a_plain_sae_shows_values_alone(browser: Browser, tmp_path: Path) -> None:
    write = write_report(tmp_path, kind="SAE")
    plain = feature(0, 130)
    assert plain is not None
    plain["contexts"] = [{**context, "sigma": None} for context in plain["contexts"]]
    write("features/0000", {"first": 0, "features": [plain]})
    with watched_page(browser, tmp_path) as page:
        visit(page, tmp_path, "feature.html#0")
        assert page.locator(".contexts .value").all_inner_texts()[:2] == ["6", "5.833"]


def manifest_of(folder: Path) -> dict[str, object]:
    from vsae_lightning.dashboard.data_files import read_data

    found: dict[str, object] = read_data(folder, "manifest")
    return found


def test_scores_name_the_model(page: Page, report: Path) -> None:
    visit(page, report, "feature.html#0")
    expect(page.locator("section", has_text="Explanation").locator(".note")).to_contain_text(scores()["how"]["model"])
