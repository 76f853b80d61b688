"""Made-up maps and a comparison, beside the report of `report_data`."""

from pathlib import Path
from typing import Any

import numpy as np

import report_data
from report_data import HOSTILE, KING, WORDS
from vsae_lightning.dashboard.data_files import Write

LABEL = "<b>sport</b>"
"""A probing label, hostile too."""
D_SAE = 130
CLUSTERS = 4
OTHER_SIZE = 100
PAIRS = 90


def write_map_report(folder: Path, d_sae: int = D_SAE) -> Write:
    """Of features, but for the dead, two maps; a map of samples; a comparison with a run of 100 features.

    On the map `activation` feature j is at (j, j mod 4) and in the cluster j mod 4. Sample 0 holds everything hostile.
    """
    write = report_data.write_report(folder, d_sae)
    manifest = report_data.manifest(d_sae, "VSAE")
    manifest["has"] |= {"maps": ["activation", "decoder"], "samples": True, "compare": True}
    write("manifest", manifest)
    features = np.array([j for j in range(d_sae) if not report_data.is_dead(j)])
    labels = [LABEL if j % 3 == 0 else None for j in features.tolist()]
    write("maps/activation", feature_map("t-SNE by activation", features, features, features % CLUSTERS, labels))
    rng = np.random.default_rng(0)
    decoder = feature_map("t-SNE by decoder direction", features, rng.normal(size=len(features)), features % 12, None)
    write("maps/decoder", decoder)
    write("samples", samples())
    write_other(write)
    write("compare", comparison(d_sae))
    return write


def feature_map(
    title: str, features: np.ndarray, x: np.ndarray, cluster: np.ndarray, labels: list[str | None] | None
) -> dict[str, Any]:
    """Of features that lie on as many lines as there are clusters."""
    return {
        "title": title,
        "how": "distance: a < b & c; perplexity 30",
        "features": features,
        "x": x,
        "y": cluster.astype(float) * len(features) / 8,
        "cluster": cluster,
        "numbers": numbers(),
        "labels": labels,
    }


def numbers() -> list[dict[str, Any]]:
    """One of them not known."""
    return [
        {"name": "silhouette", "value": 0.4321, "help": "of the clusters on the map; 1: far apart"},
        {"name": "trustworthiness", "value": None, "help": "share of neighbours that are neighbours <i>there</i>"},
    ]


def samples() -> dict[str, Any]:
    """Forty, of which the first holds what is hostile."""
    count = 40
    contexts = [{"tokens": [KING + (i + k) % len(WORDS) for k in range(9)], "at": 4} for i in range(count)]
    contexts[0] = {"tokens": list(range(len(HOSTILE))), "at": 0}
    return {
        "title": "t-SNE of samples",
        "how": "forty rows",
        "x": np.arange(count),
        "y": np.arange(count) % 7,
        "cluster": np.arange(count) % 3,
        "colours": [
            {"key": "norm", "name": "norm", "kind": "number", "values": np.arange(count) / 7},
            {"key": "held_out", "name": "held out", "kind": "category", "values": ["yes", "no"] * (count // 2)},
        ],
        "contexts": contexts,
        "features": [[[i % 9 + 1, 3.5], [2, 1.25]] for i in range(count)],
        "numbers": numbers(),
    }


def write_other(write: Write) -> None:
    """The run that is compared with; its feature j fires on what feature j of this one does."""
    write("other/columns", report_data.columns(OTHER_SIZE))
    for first in range(0, OTHER_SIZE, report_data.SHARD):
        features = [
            report_data.feature(j, OTHER_SIZE) for j in range(first, min(first + report_data.SHARD, OTHER_SIZE))
        ]
        write(f"other/features/{first // report_data.SHARD:04d}", {"first": first, "features": features})


def comparison(d_sae: int) -> dict[str, Any]:
    """Feature j is paired with j of the other, at cosine 1 - j / 100, for j below 90."""
    pairs = [[j, j, 1 - j / 100] for j in range(PAIRS)]
    return {
        "names": ["run <b>1</b>", "run <i>2</i>"],
        "how": "Each feature is in one pair at most & more",
        "pairs": pairs,
        "only_mine": [[j, j / 200] for j in range(PAIRS, d_sae)],
        "only_other": [[j, j / 200] for j in range(PAIRS, OTHER_SIZE)],
        "threshold": 0.7,
        "map": {
            "mine": np.arange(d_sae),
            "x": np.arange(d_sae),
            "y": np.zeros(d_sae),
            "other": np.arange(OTHER_SIZE),
            "x2": np.arange(OTHER_SIZE),
            "y2": np.full(OTHER_SIZE, 50.0),
            "how": "t-SNE by cosine of the decoder rows of both",
        },
        "numbers": [
            {"name": "explained variance", "mine": 0.8123, "other": 0.75, "help": "1 - FVU"},
            {"name": "mean sigma", "mine": 0.5, "other": None, "help": "of a <vSAE>"},
        ],
    }
