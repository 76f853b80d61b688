"""The data of the page that compares two runs."""

from typing import Any

import numpy as np
from jaxtyping import Float

from vsae_lightning.analysis.matching import FLOOR, Compared, Living
from vsae_lightning.analysis.observation import DENSE, Observation
from vsae_lightning.dashboard.data_files import Write

MEANINGS = {
    "explained variance": "1 - sum |x - x_hat|^2 / sum |x - mean|^2",
    "L0": "features that fire in a row, mean over rows",
    "features": "in the dictionary",
    "alive": "features that fire",
    "alive fraction": "share of the features that fire",
    "dense": f"features that fire in over {DENSE:.0%} of rows",
    "median density": "share of rows in which a feature fires, median over those that fire",
    "mean predicate F1": "how well a simple predicate on tokens tells where a feature fires, on the half of the text "
    "that it was not chosen on; mean over the features with one",
    "mean sigma": "standard deviation of the posterior, mean over the features that fire",
    "mean KL": "of the posterior to N(0, 1), in nats per row, mean over the features that fire",
    "mean changes": "share of its firings, with sampling or without, that are there with one of both alone; mean over "
    "the features that fire",
}


def write_comparison(
    write: Write,
    compared: Compared,
    predicate_f1: tuple[Float[np.ndarray, " d_sae"] | None, Float[np.ndarray, " d_other"] | None] = (None, None),
) -> None:
    """Write `compare`.

    Args:
        write: Writes data.
        compared: Two runs.
        predicate_f1: Of the features of both, NaN where none is known; None: not computed.
    """
    mine, other, threshold = compared.mine, compared.other, compared.threshold
    measured = [_measured(one.observation, f1) for one, f1 in zip((mine, other), predicate_f1, strict=True)]
    content = {
        "names": _names(mine.observation.subject.name, other.observation.subject.name),
        "how": _how(compared),
        "pairs": _listed(*compared.pairs),
        "only_mine": _listed(*mine.only(threshold)),
        "only_other": _listed(*other.only(threshold)),
        "threshold": threshold,
        "map": _map(compared),
        "numbers": [*_side_by_side(*measured), *_likeness(compared)],
    }
    write("compare", content)


def _names(mine: str, other: str) -> list[str]:
    return [mine, other if other != mine else f"{other} (the other)"]


def _how(compared: Compared) -> str:
    mine, other = compared.mine, compared.other
    foreign = "" if other.observation.own_text else " The text is that of the first; the second was trained on another."
    return (
        f"Features that fire in {mine.observation.rows:,} rows, {len(mine.features):,} and "
        f"{len(other.features):,}. A feature is in one pair at most, with a cosine of decoder rows above {FLOOR}; the "
        f"pairs are those whose sum of (cosine - {FLOOR}) is the largest. A feature whose largest cosine with the "
        f"other's is below {compared.threshold:g} is one that the other has not.{foreign}"
    )


def _listed(*columns: np.ndarray) -> list[tuple[Any, ...]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _map(compared: Compared) -> dict[str, Any]:
    joint, count = compared.joint, len(compared.joint.mine)
    x, y = joint.places.T
    living = len(compared.mine.features) + len(compared.other.features)
    shown = "all" if len(x) == living else f"{len(x):,} of {living:,}, drawn at random,"
    return {
        "mine": joint.mine,
        "x": x[:count],
        "y": y[:count],
        "other": joint.other,
        "x2": x[count:],
        "y2": y[count:],
        "how": f"The features that fire, {shown} of both: t-SNE of their decoder rows by cosine.",
    }


def _measured(observation: Observation, predicate_f1: Float[np.ndarray, " d_sae"] | None) -> dict[str, float | None]:
    """What a run is on its own, by the names of `MEANINGS`."""
    density, living = observation.density, observation.firings.counts > 0
    found: dict[str, float | None] = {
        "explained variance": observation.explained_variance,
        "L0": observation.mean_l0,
        "features": len(density),
        "alive": int(living.sum()),
        "alive fraction": float(living.mean()),
        "dense": observation.dense,
        "median density": float(np.median(density[living])),
    }
    if predicate_f1 is not None and not np.isnan(predicate_f1).all():
        found["mean predicate F1"] = float(np.nanmean(predicate_f1))
    if (posteriors := observation.posteriors) is not None:
        named = {"mean sigma": posteriors.sigma, "mean KL": posteriors.kl, "mean changes": posteriors.changes}
        found |= {name: float(values[living].mean()) for name, values in named.items() if values is not None}
    return found


def _side_by_side(mine: dict[str, float | None], other: dict[str, float | None]) -> list[dict[str, Any]]:
    return [
        _number(name, mine.get(name), other.get(name), meaning)
        for name, meaning in MEANINGS.items()
        if name in mine or name in other
    ]


def _likeness(compared: Compared) -> list[dict[str, Any]]:
    """How much of each the other has."""
    both, threshold, cosine = (compared.mine, compared.other), compared.threshold, compared.pairs.cosine
    matched = int((cosine >= threshold).sum())
    mean = float(cosine.mean()) if len(cosine) else None

    def of_each(name: str, meaning: str, values: list[float]) -> dict[str, Any]:
        return _number(name, values[0], values[1], meaning)

    return [
        _number("mean cosine of pairs", mean, mean, f"of all pairs, which are above {FLOOR}"),
        of_each("in a pair", "share of the features that fire", [len(cosine) / len(one.features) for one in both]),
        of_each(
            "matched",
            f"share of the features that fire with a partner at a cosine of at least {threshold:g}",
            [matched / len(one.features) for one in both],
        ),
        of_each(
            "MMCS",
            "the largest cosine of a feature with one of the other's, mean over those that fire (Sharkey et al. 2022)",
            [float(one.best.mean()) for one in both],
        ),
        of_each("only here", "features that the other has not", [_count_only(one, threshold) for one in both]),
    ]


def _count_only(living: Living, threshold: float) -> int:
    return len(living.only(threshold)[0])


def _number(name: str, mine: float | None, other: float | None, meaning: str) -> dict[str, Any]:
    return {"name": name, "mine": mine, "other": other, "help": meaning}
