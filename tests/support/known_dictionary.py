"""A small dictionary with every kind of structure, as options of `SyntheticDataModule`."""

from typing import Any

ROWS = 200_000  # that are drawn of it
STRUCTURED: dict[str, Any] = {
    "d_in": 16,
    "num_features": 40,
    "mean_active": 6.0,
    "zipf_exponent": 0.7,
    "norm_spread": 0.3,
    "magnitude_spread": 0.4,
    "correlated_pairs": 4,
    "pair_correlation": 0.6,
    "hierarchies": 3,
    "children_per_parent": 2,
    "exclusive_sets": 2,
    "exclusive_set_size": 4,
    "noise_std": 0.1,
    "seed": 5,
}
