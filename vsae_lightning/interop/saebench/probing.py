"""SAEBench's own sparse_probing_sae_probes, of a subject of ours."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sae_bench.evals.sparse_probing_sae_probes import SparseProbingSaeProbesEvalConfig, run_eval
from sae_probes.generate_model_activations import ensure_dataset_activations
from sae_probes.utils_data import get_dataset_sizes

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.probing import Probing
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench.adapter import AutoencoderForSAEBench, bridge

# In the names of their files, of which some may not hold a path.
MODEL = "subject"


def run(subject: Subject, evaluation: Probing, folder: Path) -> dict[str, Any]:
    """SAEBench's result on our language model, whose activations are put where sae-probes looks for them.

    It has no probe on all latents; `sae_test_accuracy` is None.

    Raises:
        InputError: Texts that it has not, or fewer of them than it takes.
    """
    names = evaluation.dataset_names()
    _require_its_texts(evaluation, names)
    with TemporaryDirectory(dir=folder) as work:
        activations = str(Path(work) / "activations")
        config = SparseProbingSaeProbesEvalConfig(
            model_name=MODEL,
            random_seed=evaluation.random_seed,
            dataset_names=names,
            reg_type=evaluation.reg_type,
            ks=list(evaluation.ks),
            binarize=evaluation.binarize,
            results_path=str(Path(work) / "results"),
            model_cache_path=activations,
        )
        sae = AutoencoderForSAEBench(subject)
        # What is there it does not compute, so that it asks nobody for a model.
        ensure_dataset_activations(
            MODEL,
            names,
            [sae.cfg.hook_name],
            activations,
            device=str(subject.device),
            max_seq_len=evaluation.positions(subject),
            model=bridge(subject),
        )
        results = run_eval(config, [(subject.name, sae)], str(subject.device), str(folder), force_rerun=True)
    (result,) = results.values()
    return result


def _require_its_texts(evaluation: Probing, names: list[str]) -> None:
    if evaluation.data:
        raise InputError(f"data is {evaluation.data!r}; SAEBench's own code reads the sets of sae-probes alone.")
    sizes = get_dataset_sizes()
    for name in names:
        if sizes[name] > evaluation.max_texts:
            raise InputError(f"max_texts is {evaluation.max_texts}; SAEBench's own code takes all {sizes[name]}.")
