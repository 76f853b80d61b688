"""SAEBench's own scr_and_tpp, of a subject of ours."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import jaxtyping
import torch
from sae_bench.evals.scr_and_tpp import main
from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig
from sae_bench.sae_bench_utils import dataset_info

from vsae_lightning.evaluation.concept_groups import Concepts, TextGroups
from vsae_lightning.evaluation.concept_removal import Removal
from vsae_lightning.evaluation.removal import SCR
from vsae_lightning.evaluation.results import result_name
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.files import write_json
from vsae_lightning.interop.saebench.adapter import AutoencoderForSAEBench, bridge


def run(subject: Subject, evaluation: Removal, folder: Path) -> dict[str, Any]:
    """What SAEBench computes on the texts that `evaluation` chooses, with our model where it would load its own.

    n_values above the number of latents, which SAEBench refuses, are left out.

    Returns:
        SAEBench's result, which is in `folder` too.
    """
    grad_enabled = torch.is_grad_enabled()
    try:
        with _our_model_and_texts(subject, evaluation), TemporaryDirectory() as scratch:
            results = main.run_eval(
                _config(subject, evaluation),
                [(subject.name, AutoencoderForSAEBench(subject))],
                str(subject.device),
                str(Path(scratch) / "results"),
                force_rerun=True,
                save_activations=False,
                artifacts_path=str(Path(scratch) / "artifacts"),
            )
    finally:
        torch.set_grad_enabled(grad_enabled)  # SAEBench leaves it off
    (result,) = results.values()
    write_json(folder / result_name(subject.name), result)
    return result


def _config(subject: Subject, evaluation: Removal) -> ScrAndTppEvalConfig:
    """Our settings as SAEBench's."""
    settings = evaluation.settings(subject)
    known = ScrAndTppEvalConfig.__dataclass_fields__
    config = ScrAndTppEvalConfig(**{name: value for name, value in settings.items() if name in known})
    config.n_values = evaluation.possible(subject)
    config.llm_batch_size = subject.provenance.lm_batch_sequences
    return config


@contextmanager
def _our_model_and_texts(subject: Subject, evaluation: Removal) -> Iterator[None]:
    """SAEBench with our data sets among those that it knows, and with our model loaded; as it was afterwards."""
    tables = evaluation.tables()
    concepts = {part.name: part for table in tables for part in evaluation.concepts(table)}

    def chosen(
        dataset_name: str, spurious_corr: bool, train: int, test: int, seed: int, pair: Any, values: Any
    ) -> tuple[TextGroups, TextGroups]:
        name = f"{dataset_name}_scr_{pair[0]}_{pair[1]}" if spurious_corr else f"{dataset_name}_tpp"
        return _as_saebench_names_them(evaluation, concepts[name])

    with ExitStack() as patches:
        for owner, name, value in (
            (jaxtyping.config, "jaxtyping_disable", True),  # what is annotated HookedTransformer is a bridge here
            (main.HookedTransformer, "from_pretrained_no_processing", lambda *_, **__: bridge(subject)),
            (main.dataset_creation, "get_train_test_data", chosen),
        ):
            patches.enter_context(patch.object(owner, name, value))
        classes = {table.name: list(table.classes) for table in tables}
        patches.enter_context(patch.dict(dataset_info.chosen_classes_per_dataset, classes))
        attributes = {table.name: table.attributes for table in tables}
        patches.enter_context(patch.dict(main.COLUMN2_VALS_LOOKUP, attributes))
        yield


def _as_saebench_names_them(evaluation: Removal, concepts: Concepts) -> tuple[TextGroups, TextGroups]:
    if not isinstance(evaluation, SCR):
        return concepts.train, concepts.test
    names = [name for pair in dataset_info.PAIRED_CLASS_KEYS.items() for name in pair]
    return (
        dict(zip(names, concepts.train.values(), strict=True)),
        dict(zip(names, concepts.test.values(), strict=True)),
    )
