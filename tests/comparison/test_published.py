"""The numbers of the paper, written out once more from its text."""

import pytest

from vsae_lightning.comparison.groups import of_the_paper
from vsae_lightning.comparison.published import CAVEATS, published

CELLS = {
    ("TopK", 64, "ce_loss_score"): 0.8824,
    ("TopK", 128, "explained_variance_saebench"): 0.8633,
    ("TopK", 512, "cosine"): 0.9648,
    ("TopK", 256, "alive_fraction"): 0.9344,
    ("vSAE", 64, "alive_fraction"): 0.0490,
    ("vSAE", 512, "alive_fraction"): 0.3678,
    ("vSAE", 128, "ce_loss_score"): 0.8824,
    ("vSAE", 256, "cosine"): 0.9219,
    ("TopK", 64, "probing_top_1"): 0.6476,
    ("TopK", 256, "probing_top_5"): 0.7815,
    ("vSAE", 512, "probing_top_2"): 0.7497,
    ("vSAE", 256, "probing_top_5"): 0.8024,
    ("TopK", 512, "scr_500"): -0.8374,
    ("TopK", 256, "scr_2"): -0.0155,
    ("vSAE", 256, "scr_50"): 0.2068,
    ("vSAE", 512, "scr_100"): -0.0106,
    ("TopK", 256, "tpp_10"): 0.2285,
    ("vSAE", 512, "tpp_50"): 0.2563,
    ("TopK", 512, "tpp_unintended_500"): 0.3349,
    ("vSAE", 256, "tpp_unintended_2"): 0.0016,
}


@pytest.mark.parametrize(("kind", "k", "key"), CELLS, ids=str)
def test_a_cell_is_as_the_paper_has_it(kind: str, k: int, key: str) -> None:
    (found,) = [one.values for one in published() if (one.kind, one.k) == (kind, k)]
    assert found[key] == CELLS[kind, k, key]


def test_ce_scores_are_multiples_of_1_over_34_as_their_caveat_says() -> None:
    for one in published():
        assert one.values["ce_loss_score"] * 34 == pytest.approx(round(one.values["ce_loss_score"] * 34), abs=2e-3)
    assert any("1/34" in caveat for caveat in CAVEATS)
    assert any("never sampled" in caveat for caveat in CAVEATS)


def test_what_was_not_published_is_not_there() -> None:
    by_name = {group.name: group for group in of_the_paper()}
    assert len(by_name) == 8
    small, large = by_name["paper vSAE k=64"], by_name["paper vSAE k=512"]
    assert "scr_2" not in small.values
    assert "tpp_500" in large.values
    assert all("l0" not in group.values and "absorption" not in group.values for group in by_name.values())
    assert large.values["tpp_2"].source == "Baker & Li 2025, arXiv 2509.22994"
