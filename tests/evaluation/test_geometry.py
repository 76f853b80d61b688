"""The geometry of a run, against the whole matrices."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vsae_lightning.commands.evaluate import evaluate
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.geometry import QUANTILES, Geometry
from vsae_lightning.evaluation.robustness import Robustness
from vsae_lightning.metrics.directions import dispersion


@pytest.mark.parametrize("min_firings", [0, 4])
def test_every_number_of_a_run(run: Path, min_firings: int) -> None:
    subject = open_subject(str(run))
    scores = Geometry(min_firings=min_firings).scores(subject, untracked)
    x = torch.cat([subject.activations(tokens) for tokens in subject.held_out()])
    active = subject.autoencoder.encode(x) != 0
    counts = active.sum(0)
    rows = subject.autoencoder.W_dec[counts > 0].double()
    rows = rows / rows.norm(dim=-1, keepdim=True)
    cosine = (rows @ rows.T).fill_diagonal_(0).abs()
    values = torch.linalg.svdvals(rows)
    shares = values / values.sum()
    n = len(rows)
    assert scores.metrics["decoder"] == pytest.approx(
        {
            "alive_fraction": n / 96,
            "mean_abs_cosine": float(cosine.sum() / (n * (n - 1))),
            "mean_largest_abs_cosine": float(cosine.amax(1).mean()),
            "largest_abs_cosine": float(cosine.max()),
            "effective_rank": float((-shares * shares.log()).sum().exp()),
            "participation_ratio": float(values.square().sum() ** 2 / values.pow(4).sum()),
        },
        rel=1e-5,
    )
    assert scores.unstructured["rows"] == len(x)
    assert scores.unstructured["alive"] == n
    assert sum(scores.unstructured["abs_cosine_pairs"]) == n * (n - 1) / 2
    assert sum(scores.unstructured["largest_abs_cosine_latents"]) == n
    assert scores.metrics["dispersion"]["dispersion"] == pytest.approx(dispersion(rows.float()).ratio, rel=1e-5)

    often = (counts >= max(1, min_firings)).nonzero().squeeze(1).tolist()
    jaccard = np.zeros((96, 96))
    for i, j in itertools.permutations(often, 2):
        both, either = active[:, i] & active[:, j], active[:, i] | active[:, j]
        jaccard[i, j] = int(both.sum()) / int(either.sum())
    largest = jaccard.max(1)[often]
    together = scores.metrics["coactivation"]
    assert together["latents"] == len(often)
    assert together["mean_jaccard"] == pytest.approx(jaccard.sum() / (len(often) * (len(often) - 1)))
    assert together["mean_largest_jaccard"] == pytest.approx(largest.mean())
    assert together["largest_jaccard"] == pytest.approx(largest.max())
    for quantile in QUANTILES:
        assert together[f"largest_jaccard_quantile_{quantile}"] == pytest.approx(np.quantile(largest, quantile))
    assert len(scores.details) == 20
    assert scores.details[0]["jaccard"] == pytest.approx(largest.max())
    for pair in scores.details:
        assert pair["jaccard"] == pytest.approx(jaccard[tuple(pair["latents"])])


def test_latents_that_fire_too_rarely_have_no_coactivation(run: Path) -> None:
    scores = Geometry(min_firings=10**9).scores(open_subject(str(run)), untracked)
    assert set(scores.metrics["coactivation"].values()) == {None}
    assert scores.details == []
    assert scores.headline["mean largest Jaccard"] is None


def test_a_dead_dictionary_has_no_geometry(run: Path) -> None:
    subject = open_subject(str(run))
    subject.autoencoder.b_enc[1:] = -1e9
    with pytest.raises(InputError, match="version_0: fewer than two of its latents fire in "):
        Geometry().scores(subject, untracked)


def test_no_held_out_token_is_an_error(run: Path) -> None:
    with pytest.raises(InputError, match="max_tokens is 3"):
        Geometry(max_tokens=3).scores(open_subject(str(run)), untracked)


def test_the_command_writes_both_as_json(run: Path, tmp_path: Path) -> None:
    settings = Robustness(max_tokens=240, against=[str(run)])
    evaluate(str(run), suite="geometry,robustness", output=str(tmp_path), robustness=settings)
    for name in ("geometry", "robustness"):
        (path,) = (tmp_path / name).glob("*.json")
        result = json.loads(path.read_text(), parse_constant=lambda constant: pytest.fail(constant))  # no NaN
        assert result["eval_type_id"] == name
        assert all(isinstance(category, dict) for category in result["eval_result_metrics"].values())
    assert result["eval_config"]["noise"] == [0.05, 0.1, 0.3]
