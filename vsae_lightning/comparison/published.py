"""The numbers of Baker & Li 2025, "Analysis of Variational Sparse Autoencoders", arXiv 2509.22994.

TopK SAE and TopK vSAE on EleutherAI/pythia-70m-deduped, `blocks.3.hook_resid_post`, d_sae 8192, 1.92 M tokens of
TinyStories, one seed, all measured by SAEBench. SCR and TPP are known for k = 256 and 512 alone.
"""

from typing import Any, NamedTuple

from vsae_lightning.comparison.quantities import PROBED, THRESHOLDS

SOURCE = "Baker & Li 2025, arXiv 2509.22994"
K = (64, 128, 256, 512)
CAVEATS = (
    "CE loss scores are multiples of 1/34 (averages in bf16), so nearly uninformative.",
    "The published vSAE never sampled: it is a TopK SAE with half the squared mean of all latents as a penalty.",
    "Learning rate, decoder constraint, bias initialisation, pre-bias and AuxK differ between its TopK SAE and vSAE.",
    "One seed; Pythia-70M, layer 3, TinyStories: another model and other data than yours may be. "
    "Probing, SCR and TPP are on SAEBench's own data sets.",
    "L0 was not published; plots put these points at L0 = k.",
)
CORE: dict[str, dict[str, tuple[float, ...]]] = {
    "TopK": {
        "ce_loss_score": (0.8824, 0.9412, 1.0294, 1.0294),
        "explained_variance_saebench": (0.8242, 0.8633, 0.9062, 0.9570),
        "cosine": (0.8398, 0.8789, 0.9180, 0.9648),
        "alive_fraction": (0.9611, 0.8102, 0.9344, 0.9830),
    },
    "vSAE": {
        "ce_loss_score": (0.8529, 0.8824, 0.9412, 1.0294),
        "explained_variance_saebench": (0.8008, 0.8516, 0.9062, 0.9414),
        "cosine": (0.8203, 0.8711, 0.9219, 0.9531),
        "alive_fraction": (0.0490, 0.0898, 0.1810, 0.3678),
    },
}
PROBING: dict[str, tuple[tuple[float, ...], ...]] = {
    "TopK": (
        (0.6476, 0.6628, 0.7028, 0.7261),
        (0.6931, 0.7044, 0.7432, 0.7639),
        (0.7446, 0.7656, 0.7815, 0.7994),
    ),
    "vSAE": (
        (0.7002, 0.6818, 0.7060, 0.7043),
        (0.7295, 0.7397, 0.7487, 0.7497),
        (0.7795, 0.7809, 0.8024, 0.7952),
    ),
}
SCR: dict[tuple[str, int], tuple[float, ...]] = {
    ("TopK", 256): (-0.0155, -0.0054, 0.0155, 0.0121, -0.3775, -0.5981, -0.3648),
    ("TopK", 512): (0.0398, 0.0123, 0.0522, 0.0039, -0.4073, -0.3994, -0.8374),
    ("vSAE", 256): (0.0421, 0.0907, 0.1364, 0.1359, 0.2068, 0.2008, -0.2418),
    ("vSAE", 512): (0.0148, 0.0414, 0.0601, 0.0842, 0.0771, -0.0106, -0.2932),
}
TPP: dict[tuple[str, int], tuple[float, ...]] = {
    ("TopK", 256): (0.0835, 0.1695, 0.2285, 0.2095, 0.1240, 0.0780, 0.0483),
    ("TopK", 512): (0.0791, 0.1960, 0.2358, 0.1695, 0.0567, 0.0340, 0.0244),
    ("vSAE", 256): (0.0143, 0.0505, 0.1125, 0.2011, 0.2533, 0.2085, 0.1356),
    ("vSAE", 512): (0.0096, 0.0301, 0.0772, 0.1762, 0.2563, 0.2117, 0.0968),
}
TPP_UNINTENDED: dict[tuple[str, int], tuple[float, ...]] = {
    ("TopK", 256): (0.0196, 0.0473, 0.0858, 0.1434, 0.2353, 0.2813, 0.3110),
    ("TopK", 512): (0.0134, 0.0491, 0.1013, 0.1898, 0.3026, 0.3253, 0.3349),
    ("vSAE", 256): (0.0016, 0.0055, 0.0109, 0.0331, 0.0926, 0.1508, 0.2237),
    ("vSAE", 512): (0.0015, 0.0054, 0.0107, 0.0277, 0.0792, 0.1460, 0.2625),
}


class Published(NamedTuple):
    """One autoencoder of the paper: `TopK` or `vSAE`, its k, and its numbers by the key of their quantity."""

    kind: str
    k: int
    values: dict[str, float]


def published() -> list[Published]:
    """The eight autoencoders of the paper."""
    return [Published(kind, k, _values(kind, k)) for kind in CORE for k in K]


def _values(kind: str, k: int) -> dict[str, float]:
    column = K.index(k)
    values = {key: numbers[column] for key, numbers in CORE[kind].items()}
    values |= {f"probing_top_{n}": row[column] for n, row in zip(PROBED, PROBING[kind], strict=True)}
    over_n: dict[str, Any] = {"scr": SCR, "tpp": TPP, "tpp_unintended": TPP_UNINTENDED}
    for name, table in over_n.items():
        if (kind, k) in table:
            values |= {f"{name}_{n}": value for n, value in zip(THRESHOLDS, table[kind, k], strict=True)}
    return values
