"""SAEBench's own absorption, of a subject of ours."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from sae_bench.evals.absorption import (
    common,
    feature_absorption,
    feature_absorption_calculator,
    main,
    probing,
    prompting,
)
from sae_bench.evals.absorption.eval_config import AbsorptionEvalConfig

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.absorption import Absorption, headline, summary
from vsae_lightning.evaluation.results import result_name, sae_config
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.files import write_json
from vsae_lightning.interop.saebench.adapter import bridge
from vsae_lightning.interop.saebench.unit_rows import UnitRowsForSAEBench

EXAMPLES = 10  # in SAEBench's prompts


def run(subject: Subject, evaluation: Absorption, folder: Path) -> dict[str, Any]:
    """Its result, also written into `folder`; metrics are None where SAEBench writes nothing.

    The words are those of the evaluation, in its order; all other choices are SAEBench's, from the same seed.

    Raises:
        InputError: A setting or a hook that SAEBench does not have.
    """
    layer = sae_config(subject)["hook_layer"]
    if subject.provenance.hook_name != f"blocks.{layer}.hook_resid_post":
        raise InputError(
            f"absorption: SAEBench reads blocks.{layer}.hook_resid_post, but the autoencoder is of "
            f"{subject.provenance.hook_name}; leave out --by saebench."
        )
    if evaluation.icl_examples != EXAMPLES:
        raise InputError(f"absorption.icl_examples is {evaluation.icl_examples}; SAEBench always has {EXAMPLES}.")
    settings = evaluation.settings(subject)
    known = {name: settings[name] for name in AbsorptionEvalConfig.__dataclass_fields__ if name in settings}
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng(), _ours(subject, evaluation, Path(scratch)):
        torch.manual_seed(evaluation.random_seed)
        results = main.run_eval(
            AbsorptionEvalConfig(**known),
            [(subject.name, UnitRowsForSAEBench(subject))],
            str(subject.device),
            str(Path(scratch) / "results"),
            force_rerun=True,
        )
    result = next(iter(results.values()), None) or _nothing(subject, evaluation)
    write_json(folder / result_name(subject.name), result)
    return result


@contextmanager
def _ours(subject: Subject, evaluation: Absorption, scratch: Path) -> Iterator[None]:
    """SAEBench with our language model and words, and with its files in `scratch`.

    Left out: what is behind the hook. Prompts are padded on the left, so that the word is at its position where
    lengths differ, for which SAEBench, which pads on the right, refuses to run. BOS is prepended whatever the model,
    as by the HookedTransformer that SAEBench is made for.
    """
    model, words = bridge(subject), evaluation.words(subject)
    draws = random.Random(evaluation.random_seed)  # its own: whatever runs beside may draw from the global one
    folders = {"experiment_dir": scratch / "k_sparse", "probes_dir": scratch / "probes"}
    of_absorption = {
        "experiment_dir": scratch / "absorption",
        "sparse_probing_experiment_dir": scratch / "k_sparse",
        "probes_dir": scratch / "probes",
    }
    read = partial(model.run_with_cache, stop_at_layer=sae_config(subject)["hook_layer"] + 1)
    calculator = feature_absorption_calculator.FeatureAbsorptionCalculator
    patches: list[AbstractContextManager[Any]] = [
        patch.object(main.HookedTransformer, "from_pretrained_no_processing", lambda *_, **__: model),
        patch.object(prompting, "random", draws),
        patch.object(probing, "random", draws),
        patch.object(common, "get_alpha_tokens", lambda _: words),
        patch.object(feature_absorption, "get_alpha_tokens", lambda _: words),
        patch.object(main, "run_k_sparse_probing_experiment", partial(main.run_k_sparse_probing_experiment, **folders)),
        patch.object(
            main, "run_feature_absortion_experiment", partial(main.run_feature_absortion_experiment, **of_absorption)
        ),
        patch.object(calculator, "_validate_prompts_are_same_length", lambda *_: None),
        patch.object(model, "run_with_cache", read),
        patch.object(model.tokenizer, "padding_side", "left"),
        patch.object(model.cfg, "default_prepend_bos", True),
        # A path, if the model is local, where SAEBench would write its probes, and find those of another evaluation.
        patch.object(model.cfg, "model_name", "model"),
    ]
    (scratch / "results").mkdir()
    with ExitStack() as stack:
        for change in patches:
            stack.enter_context(change)
        stack.enter_context(chdir(scratch))
        yield


def _nothing(subject: Subject, evaluation: Absorption) -> dict[str, Any]:
    return {
        "eval_type_id": evaluation.type_id,
        "eval_config": evaluation.settings(subject),
        "eval_result_metrics": {"mean": summary([])},
        "eval_result_details": [],
        "sae_cfg_dict": sae_config(subject),
        "eval_result_unstructured": {
            "headline": headline([]),
            "reason": evaluation.too_few("too few"),
        },
    }
