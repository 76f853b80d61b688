"""Features look and fire as the law says."""

import numpy as np
import pytest
import torch
from torch import Tensor

from known_dictionary import ROWS, STRUCTURED
from vsae_lightning.data.ground_truth import KnownDictionary, capped_zipf
from vsae_lightning.data.synthetic import SyntheticDataModule


@pytest.fixture(scope="module")
def on(drawn: tuple[Tensor, Tensor]) -> Tensor:
    return (drawn[1] != 0).double()


def test_zipf_by_hand() -> None:
    # Uncapped, c = 1.2 / (25 / 12) is above the cap of 0.5; with the first at the cap c = 0.7 / (13 / 12).
    expected = [0.5, 0.7 * 12 / 13 / 2, 0.7 * 12 / 13 / 3, 0.7 * 12 / 13 / 4]
    assert capped_zipf(4, 1.2, 1.0).tolist() == pytest.approx(expected, rel=1e-12)
    assert capped_zipf(5, 2.0, 0.0).tolist() == [0.4] * 5
    assert capped_zipf(6, 3.0, 2.0).tolist() == pytest.approx([0.5] * 6)


def test_zipf_sums_to_what_is_asked_and_falls_as_a_power_below_the_cap() -> None:
    p = capped_zipf(1000, 20.0, 1.3)
    assert float(p.sum()) == pytest.approx(20, rel=1e-12)
    free = p < 0.5
    assert 0 < int((~free).sum()) < 30
    ranks = torch.arange(1, 1001, dtype=torch.float64)
    slopes = torch.diff(p[free].log()) / torch.diff(ranks[free].log())
    torch.testing.assert_close(slopes, torch.full_like(slopes, -1.3))


def test_no_feature_is_in_two_structures(truth: KnownDictionary) -> None:
    members = torch.cat([part.flatten() for part in (truth.pairs, truth.families, truth.sets)])
    assert (truth.pairs.shape, truth.families.shape, truth.sets.shape) == ((4, 2), (3, 3), (2, 4))
    assert len(members.unique()) == len(members) == 8 + 9 + 8
    for group in (*truth.families, *truth.sets):  # parents are the most frequent of their families
        assert (truth.frequencies[group].diff() <= 0).all()


def test_every_feature_fires_as_often_as_its_rank_says(truth: KnownDictionary, on: Tensor) -> None:
    p = capped_zipf(40, 6.0, 0.7)
    deviation = (on.mean(0) - p) / (p * (1 - p) / ROWS).sqrt()
    for members in (truth.pairs, truth.families, truth.sets, torch.arange(40)):
        assert deviation[members].abs().max() < 4
    assert deviation.square().mean().sqrt() < 1.4  # 1, were all 40 independent


def test_pairs_have_the_phi_coefficient_asked_for(truth: KnownDictionary, on: Tensor) -> None:
    phi = np.corrcoef(on.numpy(), rowvar=False)
    for first, second in truth.pairs.tolist():
        assert phi[first, second] == pytest.approx(0.6, abs=0.015)
        p, q, both = truth.frequencies[first], truth.frequencies[second], truth.co_firing()[first, second]
        assert float((both - p * q) / (p * (1 - p) * q * (1 - q)).sqrt()) == pytest.approx(0.6, rel=1e-12)


def test_a_pair_of_correlation_1_is_one_event() -> None:
    truth = SyntheticDataModule(8, 10, 2.0, correlated_pairs=5, pair_correlation=1.0, seed=0).truth
    _, codes = truth.draw(5000, torch.Generator().manual_seed(0))
    first, second = (codes != 0)[:, truth.pairs.T].unbind(1)
    assert torch.equal(first, second)
    assert first.any()


def test_children_fire_only_with_their_parents(truth: KnownDictionary, on: Tensor) -> None:
    parents = truth.parents
    children = (parents >= 0).nonzero().flatten()
    assert sorted(children.tolist()) == sorted(truth.families[:, 1:].flatten().tolist())
    for child in children.tolist():
        parent = parents[child]
        assert (on[:, child] * (1 - on[:, parent])).sum() == 0
        given = on[:, child][on[:, parent] == 1]
        expected = float(truth.frequencies[child] / truth.frequencies[parent])
        assert float(given.mean()) == pytest.approx(expected, abs=4 * (0.25 / len(given)) ** 0.5)


def test_at_most_one_of_a_set_fires(truth: KnownDictionary, on: Tensor) -> None:
    for members in truth.sets:
        assert on[:, members].sum(1).max() == 1


def test_co_firing_is_that_of_the_rows(truth: KnownDictionary, on: Tensor) -> None:
    joint = truth.co_firing()
    error = (joint * (1 - joint) / ROWS).sqrt().clamp_min(1e-9)
    assert (((on.T @ on) / ROWS - joint) / error).abs().max() < 5  # of 820 different entries
    assert torch.equal(joint, joint.T)


def test_rows_are_codes_times_dictionary_and_noise(truth: KnownDictionary, drawn: tuple[Tensor, Tensor]) -> None:
    activations, codes = drawn
    noise = activations - codes @ truth.dictionary
    assert float(noise.std()) == pytest.approx(0.1, rel=0.01)
    assert (torch.cov(noise.T) - 0.01 * torch.eye(16)).abs().max() < 5e-4


def test_strengths_are_uniform_around_1(drawn: tuple[Tensor, Tensor]) -> None:
    strengths = drawn[1][drawn[1] != 0].double()
    assert strengths.min() >= 0.6 - 1e-6
    assert strengths.max() <= 1.4 + 1e-6
    assert float(strengths.mean()) == pytest.approx(1, abs=1e-3)
    assert float(strengths.var()) == pytest.approx(0.8**2 / 12, rel=0.01)


def test_norms_are_log_normal() -> None:
    many = SyntheticDataModule(8, 4000, 5.0, norm_spread=0.5, seed=0).dictionary.norm(dim=-1).log()
    assert float(many.mean()) == pytest.approx(0, abs=0.04)
    assert float(many.std()) == pytest.approx(0.5, rel=0.05)
    unit = SyntheticDataModule(8, 50, 5.0, seed=0).dictionary.norm(dim=-1)
    torch.testing.assert_close(unit, torch.ones(50))


def test_clusters_have_the_cosines_asked_for() -> None:
    data = SyntheticDataModule(512, 120, 5.0, clusters=8, cluster_spread=0.5, seed=0)
    cluster, unit = data.truth.clusters, torch.nn.functional.normalize(data.dictionary, dim=-1)
    assert torch.bincount(cluster).tolist() == [15] * 8
    cosine, same = unit @ unit.T, cluster[:, None] == cluster
    others = ~torch.eye(120, dtype=torch.bool)
    assert float(cosine[same & others].mean()) == pytest.approx(1 / (1 + 0.5**2), abs=0.01)
    assert float(cosine[~same].mean()) == pytest.approx(0, abs=0.02)


def test_clusters_change_directions_alone() -> None:
    plain, clustered = (SyntheticDataModule(**(STRUCTURED | {"clusters": count})).truth for count in (0, 3))
    assert plain.clusters.tolist() == [-1] * 40
    assert sorted(torch.bincount(clustered.clusters).tolist()) == [13, 13, 14]
    torch.testing.assert_close(clustered.dictionary.norm(dim=-1), plain.dictionary.norm(dim=-1))
    assert not torch.allclose(clustered.dictionary, plain.dictionary)
    assert torch.equal(clustered.families, plain.families)
    assert torch.equal(clustered.co_firing(), plain.co_firing())
