"""Run folders made by hand, of known numbers, without any training."""

import json
from pathlib import Path
from typing import Any

import yaml


def model(kind: str = "SAE", k: int = 8, seed: int | None = None, **options: Any) -> dict[str, Any]:
    sparsifier = {"class_path": "vsae_lightning.TopK", "init_args": {"k": k}}
    return {
        "class_path": f"vsae_lightning.{kind}",
        "init_args": {"d_sae": 64, "sparsifier": sparsifier, "seed": seed, **options},
    }


def write_run(
    folder: Path,
    spec: dict[str, Any],
    seed: int = 0,
    test: dict[str, float] | None = None,
    fit: dict[str, float] | None = None,
    data: dict[str, Any] | None = None,
) -> Path:
    """A run folder whose `test.json` and `fit.json` are these numbers and the name of the checkpoint."""
    folder.mkdir(parents=True)
    config = {
        "seed_everything": seed,
        "trainer": {"max_steps": 10, "accumulate_grad_batches": 1},
        "model": spec,
        "data": {
            "class_path": "vsae_lightning.ActivationDataModule",
            "init_args": {"model_name": "bundled", "hook_name": "blocks.1.hook_resid_post", "batch_size": 100}
            | (data or {}),
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for name, metrics in (("test", test), ("fit", fit)):
        if metrics is not None:
            content = {**metrics, "checkpoint": f"{folder}/checkpoints/last.ckpt", "config": config}
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def write_result(
    folder: Path,
    type_id: str,
    name: str,
    metrics: dict[str, dict[str, float]],
    headline: dict[str, float] | None = None,
    when: int = 1,
    flat: bool = False,
    by: str = "vsae_lightning 0.1.0",
) -> Path:
    """One result of an evaluation, in SAEBench's schema: in a folder of its own or flat, as its programs leave it."""
    place = folder / "evaluation" / ("" if flat else type_id)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}_custom_sae_eval_results.json"
    content = {
        "eval_type_id": type_id,
        "datetime_epoch_millis": when,
        "sae_bench_commit_hash": by,
        "eval_result_metrics": metrics,
        "eval_result_unstructured": {"headline": headline or {}},
    }
    path.write_text(json.dumps(content))
    return path
