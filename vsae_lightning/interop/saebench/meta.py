"""SAEBench's own meta_structure, of a subject of ours."""

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from sae_bench.evals.meta_structure.eval_config import MetaStructureEvalConfig
from sae_bench.evals.meta_structure.main import run_eval_single_sae

from vsae_lightning.evaluation.meta_sae import MetaSAE
from vsae_lightning.evaluation.results import result_name
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.files import write_json
from vsae_lightning.interop.saebench.adapter import AutoencoderForSAEBench
from vsae_lightning.interop.saebench.unit_rows import UnitRowsForSAEBench


def run(subject: Subject, evaluation: MetaSAE, folder: Path) -> dict[str, Any]:
    """Its result, also written into `folder`; from the seed of the evaluation, which SAEBench sets in its script."""
    settings = asdict(evaluation)
    sae = (UnitRowsForSAEBench if settings.pop("unit_rows") else AutoencoderForSAEBench)(subject)
    with torch.random.fork_rng():
        random.seed(evaluation.random_seed)
        torch.manual_seed(evaluation.random_seed)
        output = run_eval_single_sae(
            subject.name, "custom_sae", sae, MetaStructureEvalConfig(**settings), str(subject.device)
        )
    result = asdict(output)
    write_json(folder / result_name(subject.name), result)
    return result
