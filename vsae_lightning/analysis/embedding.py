"""Many dimensions to the two of a map."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float

Metric = Literal["euclidean", "cosine"]


def tsne(
    rows: Float[np.ndarray, "n dimensions"], metric: Metric = "euclidean", perplexity: float = 30, seed: int = 42
) -> Float[np.ndarray, "n 2"]:
    """t-SNE (van der Maaten & Hinton 2008) of at least four rows, by openTSNE; 1,000 iterations.

    Args:
        rows: What is to be near each other where it is near here.
        metric: By which distance.
        perplexity: No more than (n - 1) // 3 (Baker & Li 2025, their code).
        seed: Of approximate neighbours.
    """
    from openTSNE import TSNE

    found: Any = TSNE(
        perplexity=min(perplexity, (len(rows) - 1) // 3),
        early_exaggeration_iter=250,
        n_iter=750,
        metric=metric,
        random_state=seed,
        n_jobs=-1,
    ).fit(rows)
    return np.asarray(found, dtype=np.float32)
