"""What is compared: every quantity, its title and axis, and where a run has it."""

from typing import NamedTuple

THRESHOLDS = (2, 5, 10, 20, 50, 100, 500)
PROBED = (1, 2, 5)
# Of our own evaluations, whose headlines are quantities each.
WITH_HEADLINE = ("geometry", "robustness")


class Quantity(NamedTuple):
    """One column.

    Attributes:
        key: In the JSON.
        title: Of the column.
        axis: Of a plot, with the unit.
        suite: The evaluation of `vsae evaluate` that computes it, and the part of the table that shows it.
        metric: In the results of that evaluation, as SAEBench names it; '' where they lack it.
        logged: In test.json, validate.json and fit.json, below `test/` or `val/`, and among the values by definition
            of our own core results; '' where they lack it.
    """

    key: str
    title: str
    axis: str
    suite: str
    metric: str
    logged: str = ""


# Of autoencoders whose training left activations out for their norm: shown where there are any.
ALL_ROWS = (
    Quantity(
        "explained_variance_all_rows",
        "explained variance, all rows",
        "explained variance of all rows, fraction",
        "core",
        "",
        "explained_variance_all_rows",
    ),
    Quantity(
        "left_out_fraction", "left out", "rows left out for their norm, fraction", "core", "", "left_out_fraction"
    ),
)
# How else than at the posterior mean an autoencoder is read: shown where a test or core found them.
READINGS = (
    Quantity(
        "explained_variance_recalibrated",
        "recalibrated",
        "explained variance at the mean after one scale and offset, fraction",
        "core",
        "",
        "explained_variance_recalibrated",
    ),
    Quantity(
        "explained_variance_sampled",
        "16 samples",
        "explained variance of the mean of 16 samples, fraction",
        "core",
        "",
        "explained_variance_sampled",
    ),
    Quantity("l0_sampled", "L0 of a sample", "active latents of one sample", "core", "", "l0_sampled"),
)
CORE = (
    Quantity(
        "explained_variance",
        "explained variance",
        "explained variance, fraction",
        "core",
        "",
        "explained_variance",
    ),
    Quantity(
        "explained_variance_saebench",
        "explained variance, SAEBench's formula",
        "explained variance by SAEBench's formula, fraction",
        "core",
        "explained_variance",
    ),
    Quantity(
        "ce_loss_score",
        "CE loss score",
        "CE loss score (1: as without the autoencoder)",
        "core",
        "ce_loss_score",
        "ce_loss_score",
    ),
    Quantity("l0", "L0", "L0, active latents per token", "core", "l0", "l0"),
    Quantity("alive_fraction", "alive", "latents alive, fraction", "core", "frac_alive", "alive_fraction"),
    Quantity("cosine", "cosine", "cosine of activation and reconstruction", "core", "cossim", "cosine"),
    Quantity("kl_score", "KL score", "KL score (1: logits as without)", "core", "kl_div_score", "kl_score"),
    Quantity("kl", "posterior KL", "KL of posterior and prior, nats per token", "core", "", "kl"),
)
PROBING = (
    *(
        Quantity(
            f"probing_top_{k}",
            f"probing top-{k}",
            f"accuracy of probes on {k} latents",
            "probing",
            f"sae_top_{k}_test_accuracy",
        )
        for k in PROBED
    ),
    Quantity("probing_dense", "probing dense", "accuracy of probes on activations", "probing", "llm_test_accuracy"),
)
FEATURES = (
    Quantity(
        "absorption",
        "absorption",
        "mean absorbed fraction",
        "absorption",
        "mean_absorption_fraction_score",
    ),
    Quantity(
        "full_absorption",
        "full absorption",
        "rate of full absorption",
        "absorption",
        "mean_full_absorption_score",
    ),
    Quantity(
        "meta_sae",
        "meta-SAE",
        "variance of the decoder explained, fraction",
        "meta",
        "decoder_fraction_variance_explained",
    ),
)
SCR = tuple(Quantity(f"scr_{n}", f"n={n}", "SCR score", "scr", f"scr_metric_threshold_{n}") for n in THRESHOLDS)
TPP = tuple(
    Quantity(f"tpp_{n}", f"n={n}", "TPP score, total", "tpp", f"tpp_threshold_{n}_total_metric") for n in THRESHOLDS
)
TPP_INTENDED = tuple(
    Quantity(
        f"tpp_intended_{n}",
        f"n={n}",
        "TPP, intended effect",
        "tpp",
        f"tpp_threshold_{n}_intended_diff_only",
    )
    for n in THRESHOLDS
)
TPP_UNINTENDED = tuple(
    Quantity(
        f"tpp_unintended_{n}",
        f"n={n}",
        "TPP, unintended effect",
        "tpp",
        f"tpp_threshold_{n}_unintended_diff_only",
    )
    for n in THRESHOLDS
)
# SAEBench's names of the evaluations, by ours.
TYPE_IDS = {
    "core": ("core",),
    "probing": ("sparse_probing_sae_probes", "sparse_probing"),
    "absorption": ("absorption_first_letter",),
    "scr": ("scr",),
    "tpp": ("tpp",),
    "meta": ("meta_structure_decoder_variance",),
    "geometry": ("geometry",),
    "robustness": ("robustness",),
}
KNOWN = (*CORE, *ALL_ROWS, *READINGS, *PROBING, *FEATURES, *SCR, *TPP, *TPP_INTENDED, *TPP_UNINTENDED)


def headline(type_id: str, name: str) -> Quantity:
    """The quantity that one entry of the headline of an evaluation of our own is."""
    return Quantity(f"{type_id}/{name}", name, name, type_id, name)
