"""The numbers that a run folder holds: metrics of its commands, and results of evaluations."""

import json
import math
from pathlib import Path
from typing import Any

from vsae_lightning.comparison.quantities import KNOWN, TYPE_IDS, WITH_HEADLINE, headline
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.results import FOLDER
from vsae_lightning.files import require_file
from vsae_lightning.log_keys import log_key
from vsae_lightning.origin import MAX_JSON_BYTES, of_checkpoint

STAGES = (("test", "test.json", "test"), ("validate", "validate.json", "val"), ("fit", "fit.json", "val"))
# In the order in which they are preferred.
OWN = tuple(type_id for ids in TYPE_IDS.values() for type_id in ids)
BY_SAEBENCH = "saebench "
SOURCES = ("test", *OWN, *(BY_SAEBENCH + type_id for type_id in OWN), "validate", "fit")

Contents = dict[str, dict[str, Any]]
Values = dict[str, dict[str, float]]


def read_metrics(folder: Path, checkpoint: Path) -> Contents:
    """The metrics files of one checkpoint, by what wrote them."""
    found = {source: read_json(folder / name) for source, name, _ in STAGES if (folder / name).is_file()}
    return of_checkpoint(found, checkpoint)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Results in SAEBench's schema, of ours or of its own programs, in the folder and below."""
    paths = sorted((folder / FOLDER).glob("**/*_eval_results.json"))
    return [{**read_json(path), "file": path.name} for path in paths]


def owner(result: dict[str, Any], members: list[str]) -> str | None:
    """The member that a result is named after: the longest that fits."""
    name = str(result["file"]).removesuffix("_eval_results.json").removesuffix("_custom_sae")
    fitting = [one for one in members if name == one or name.endswith(f"_{one}")]
    return max(fitting, key=len, default=None)


def weights_of(result: dict[str, Any]) -> Any:
    """The digest of the weights that one of our own results is of; SAEBench's own code writes none."""
    return _unstructured(result, "origin").get("weights_sha256")


def newest(results: list[dict[str, Any]]) -> Contents:
    """By source, the one that was computed last: by us, or by SAEBench's own code."""
    ordered = sorted(results, key=lambda result: _number(result.get("datetime_epoch_millis")) or 0.0)
    return {_source(result): result for result in ordered}


def _source(result: dict[str, Any]) -> str:
    is_ours = str(result.get("sae_bench_commit_hash")).startswith("vsae_lightning")
    return f"{'' if is_ours else BY_SAEBENCH}{result.get('eval_type_id')}"


def sources_of(suite: str) -> list[str]:
    """Where the quantities of an evaluation can come from."""
    return [f"{by}{type_id}" for by in ("", BY_SAEBENCH) for type_id in TYPE_IDS[suite]]


def values_of(logged: Contents, member: str, evaluated: Contents) -> Values:
    """Every known quantity, and every headline of our own evaluations, by each source that has it."""
    values: Values = {}

    def put(key: str, source: str, value: Any) -> None:
        number = _number(value)
        if number is not None:
            values.setdefault(key, {})[source] = number

    for source, _, stage in STAGES:
        of_stage = _of_stage(logged.get(source, {}), stage, member)
        for quantity in KNOWN:
            put(quantity.key, source, of_stage.get(quantity.logged))
    flat = {source: _flat(result) for source, result in evaluated.items()}
    by_definition = _unstructured(evaluated.get("core", {}), "by_definition")
    for quantity in KNOWN:
        for source in sources_of(quantity.suite):
            put(quantity.key, source, flat.get(source, {}).get(quantity.metric))
        put(quantity.key, "core", by_definition.get(quantity.logged))
    for type_id in WITH_HEADLINE:
        for name, value in _unstructured(evaluated.get(type_id, {}), "headline").items():
            put(headline(type_id, name).key, type_id, value)
    return values


def _of_stage(content: dict[str, Any], stage: str, member: str) -> dict[str, Any]:
    prefix = log_key(stage, member, "") + "/"
    own = {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
    dead = _number(own.get("dead_fraction"))
    return own if dead is None else {"alive_fraction": 1 - dead, **own}


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    """The metrics of all categories, whose names SAEBench gives once only."""
    categories = result.get("eval_result_metrics")
    found = categories.values() if isinstance(categories, dict) else ()
    return {name: value for metrics in found if isinstance(metrics, dict) for name, value in metrics.items()}


def _unstructured(result: dict[str, Any], part: str) -> dict[str, Any]:
    """What our own results have beside SAEBench's schema."""
    parts = result.get("eval_result_unstructured")
    told = parts.get(part) if isinstance(parts, dict) else None
    return told if isinstance(told, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: It is none, or torn.
    """
    require_file(path, MAX_JSON_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"RUN: {str(path)!r} is no whole JSON of metrics; remove it, and make it anew.")
    return content


def _number(value: Any) -> float | None:
    """A finite number, and nothing that only looks like one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
