from pathlib import Path

from playwright.sync_api import Page, expect

from browser import visit


def test_the_numbers_of_the_run_are_shown(page: Page, report: Path) -> None:
    visit(page, report, "index.html")
    assert page.title() == "Overview · run <b>1</b>"
    expect(page.locator(".lead")).to_have_text(
        "A variational sparse autoencoder of 130 features, looked at on 496,094 activations, 99,219 of them from "
        "documents held out of training, in contexts of 128 tokens."
    )
    facts = page.locator("section", has_text="In numbers").locator("dl.facts div").all_inner_texts()
    assert facts == ["explained variance\n0.8123", "L0\n31.97", "alive\n0.9", "dead\n13", "loss recovered\n–"]
    expect(page.locator("dt", has_text="model").locator("+ dd")).to_have_text("a <model>")


def test_warnings_stand_before_the_numbers(page: Page, report: Path) -> None:
    visit(page, report, "index.html")
    expect(page.locator(".warnings li")).to_have_text("warning: the held-out <b>L0</b> is low")


def test_the_histograms_say_what_they_hold(page: Page, report: Path) -> None:
    visit(page, report, "index.html")
    density, sparsity = page.locator(".bars").all()
    bars = density.locator(".bar title").all_text_contents()
    assert len(bars) == 30
    assert bars[18] == "0.003981 to 0.00631: 160 features"  # 10 ** -2.4 to 10 ** -2.2
    assert density.locator(".bar.dense").count() == 5  # of 30 bars from -6 to 0: those from -1 on
    assert sparsity.locator(".bar title").all_text_contents() == [
        "30 to 31: 10 rows",
        "31 to 32: 200 rows",
        "32 to 33: 4,000 rows",
        "33 to 34: 50 rows",
    ]


def test_dead_features_are_one_click_away(page: Page, report: Path) -> None:
    visit(page, report, "index.html")
    page.get_by_role("link", name="13 dead").click()
    expect(page.locator("#count")).to_have_text("12 of 130 features, page 1 of 1")


def test_curves_are_drawn_after_the_page_is_of_use(page: Page, report: Path) -> None:
    visit(page, report, "index.html")
    expect(page.locator(".charts .main-svg").nth(0)).to_be_visible()
    expect(page.locator(".charts .js-plotly-plot")).to_have_count(3)
    expect(page.locator(".charts figcaption")).to_have_text(["loss", "fvu", "l0"])
    assert page.evaluate("document.querySelector('.charts .plot').data.map(trace => trace.name)") == ["train", "val"]
    last = "loss over tokens: train/loss ends at 0.1302; val/loss ends at 0.1432"  # 59 ** -0.5, and a tenth more
    assert page.locator(".charts .plot").first.get_attribute("aria-label") == last


def test_charts_follow_the_theme(page: Page, report: Path) -> None:
    visit(page, report, "index.html")
    line = page.locator(".charts .js-line").first
    expect(line).to_have_css("stroke", "rgb(0, 114, 178)")
    page.get_by_role("button", name="Dark").click()
    expect(line).to_have_css("stroke", "rgb(86, 180, 233)")


def test_the_config_is_text(page: Page, report: Path) -> None:
    visit(page, report, "index.html")
    page.locator("summary", has_text="The config").click()
    assert "</pre><script>alert(1)</script>" in page.get_by_label("Config").inner_text()
