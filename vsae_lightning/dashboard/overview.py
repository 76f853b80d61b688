"""The data of the first page: what was trained, how well, and how to do it again."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from vsae_lightning.analysis.observation import DENSE, Observation
from vsae_lightning.analysis.training_usage import TrainingUsage
from vsae_lightning.autoencoders.variational import VariationalAutoencoder
from vsae_lightning.comparison.cautions import off_target
from vsae_lightning.comparison.curves import Curve, read_curves
from vsae_lightning.comparison.gather import Entry, entry_of
from vsae_lightning.comparison.quantities import ALL_ROWS, CORE, FEATURES, PROBING, READINGS, SCR, TPP, headline
from vsae_lightning.comparison.settings import printable
from vsae_lightning.comparison.sources import BY_SAEBENCH, SOURCES, Values
from vsae_lightning.dashboard.feature_files import SHARD
from vsae_lightning.interop.public import public_place, public_value
from vsae_lightning.log_keys import log_key
from vsae_lightning.metrics.sparsity import density_histogram
from vsae_lightning.origin import read_json
from vsae_lightning.versions import versions

HERE = "this report"
COMMANDS = {"test": "vsae test", "validate": "vsae validate", "fit": "vsae fit, the validation split"}
FACTS = (
    "class",
    "sparsifier",
    "sparsifier.k",
    "sigma",
    "kl_weight",
    "kl_on",
    "sparsity_weight",
    "gate_kl_weight",
    "encoder",
    "decoder",
    "optimizer.lr",
    "data.batch_size",
    "data.text",
    "data.max_norm_ratio",
)
DRAWN = ("explained_variance", "l0", "dead_fraction", "loss", "reconstruction", "kl", "gate_kl", "sparsity", "aux")
MAX_POINTS = 500

Number = dict[str, Any]


def manifest(
    observation: Observation,
    detailed: list[int] | None = None,
    maps: list[str] | None = None,
    compare: bool = False,
    samples: bool = False,
) -> dict[str, Any]:
    """What the report is of, and which parts it has; scores are added to it later.

    Args:
        observation: What it is of.
        detailed: Those with pages of their own; None: all.
        maps: The names of those that there are.
        compare: Whether there is another run beside it.
        samples: Whether there is a map of samples.
    """
    subject = observation.subject
    has_posterior = observation.posteriors is not None
    has = {"posterior": has_posterior, "maps": maps or [], "compare": compare, "scores": False, "samples": samples}
    return {
        "name": subject.name,
        "kind": "VSAE" if isinstance(subject.autoencoder, VariationalAutoencoder) else "SAE",
        "d_sae": subject.autoencoder.d_sae,
        "has": has,
        "shard": SHARD,
        "detailed": detailed,
    }


def overview(
    observation: Observation,
    place: Path,
    member: str | None,
    usage: TrainingUsage | None,
    predicates: float | None,
    command: str,
) -> dict[str, Any]:
    """Of a run, of a member of one, or of an export, with what is known of it.

    Args:
        observation: What the autoencoder did.
        place: The run folder, the checkpoint or the exported folder.
        member: Which member of an ensemble.
        usage: When its features fired in training.
        predicates: The mean F1 of their predicates.
        command: What made the report.

    Raises:
        InputError: Files of metrics that cannot be read.
    """
    subject = observation.subject
    entry = entry_of(place, member)
    density = density_histogram(torch.from_numpy(observation.density))
    config = subject.folder / "config.yaml"
    again = ["vsae", "fit", "--config", str(Path(public_place(subject.folder), config.name))]
    refit = [shlex.join(again)] if config.is_file() else []
    training = public_value(subject.training)
    return {
        "run": _facts(observation, entry, usage),
        "text": _text(observation),
        "warnings": public_value(_warnings(observation, entry)),
        "numbers": [*_numbers(observation, predicates), *_recorded(entry.values)],
        "curves": _curves(read_curves(subject.folder, subject.training, ("train", "val"), DRAWN), member),
        "density": {
            "edges": density.edges,
            "counts": density.counts,
            "dead": density.never,
            "dense": observation.dense,
        },
        "l0": {"values": np.flatnonzero(observation.l0), "counts": observation.l0[observation.l0 > 0]},
        "config": yaml.safe_dump(training, sort_keys=False, allow_unicode=True) if training else "",
        "reproduce": [printable(line) for line in (*refit, command)],
        "made": {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), **versions()},
    }


def _facts(observation: Observation, entry: Entry, usage: TrainingUsage | None) -> list[dict[str, str]]:
    subject, settings = observation.subject, entry.settings
    seed = next((seed for seed in entry.seeds[1::-1] if seed is not None), None)
    known = {
        "language model": public_value(subject.provenance.model_name, "model_name"),
        "hook": public_value(subject.provenance.hook_name),
        "d_in": f"{subject.autoencoder.d_in:,}",
        "d_sae": f"{subject.autoencoder.d_sae:,}",
        **{name: public_value(settings.get(name)) for name in FACTS},
        "seed": seed,
        "tokens of training": None if usage is None else f"{usage.tokens:,}",
        "trained with": _trained_with(subject.folder / "run.json"),
    }
    return [{"name": name, "value": str(value)} for name, value in known.items() if value is not None]


def _trained_with(path: Path) -> str | None:
    """The versions, and the state of the code, that a run wrote down."""
    record = public_value(read_json(path)) if path.is_file() else {}
    made, git = (found if isinstance(found := record.get(name), dict) else {} for name in ("versions", "git"))
    parts = [f"{name} {made[name]}" for name in ("vsae_lightning", "torch", "lightning") if made.get(name)]
    changed = " with changes" if git.get("dirty") else ""
    commit = [f"commit {str(git['commit'])[:8]}{changed}"] if git.get("commit") else []
    return ", ".join([*parts, *commit]) or None


def _text(observation: Observation) -> dict[str, int]:
    excerpt = observation.excerpt
    per_sequence = excerpt.context_length - excerpt.first_offset
    return {
        "tokens": excerpt.tokens.size,
        "rows": observation.rows,
        "held_out_rows": int(observation.kept[: excerpt.held_out * per_sequence].sum()),
        "context_length": excerpt.context_length,
        "first_offset": excerpt.first_offset,
    }


def _numbers(observation: Observation, predicates: float | None) -> list[Number]:
    """Those of the pass over the text."""
    density = observation.density
    found = [
        ("explained_variance", "explained variance", observation.explained_variance, "fraction of the variance"),
        *_with_left_out(observation),
        ("l0", "L0", observation.mean_l0, "active features per token"),
        ("alive_fraction", "alive", float((density > 0).mean()), "fraction of the features that fired at all"),
        ("dead", "dead", int((density == 0).sum()), "features that never fired"),
        ("dense", "dense", observation.dense, f"features that fire in over {DENSE:.0%} of the rows"),
        ("predicate_f1", "mean predicate F1", predicates, "of the best simple statement about tokens of each feature"),
    ]
    return [
        {"key": key, "name": name, "value": value, "help": what, "source": HERE} for key, name, value, what in found
    ]


def _with_left_out(observation: Observation) -> list[tuple[str, str, float, str]]:
    """What the explained variance is with the rows that training leaves out, where there are any."""
    if observation.explained_variance_all_rows is None:
        return []
    left_out = 1 - observation.rows / observation.excerpt.rows
    limit = f"rows whose norm is above {observation.subject.provenance.max_norm:.4g}, which training leaves out"
    return [
        (
            "explained_variance_all_rows",
            "explained variance, all rows",
            observation.explained_variance_all_rows,
            f"with {limit}",
        ),
        ("left_out_fraction", "left out", left_out, f"fraction of the rows: {limit}"),
    ]


def _warnings(observation: Observation, entry: Entry) -> list[str]:
    """What one must know before numbers of this page are compared."""
    l0 = [observation.mean_l0, *entry.values.get("l0", {}).values()]
    told = off_target(entry.name, entry.settings, l0)
    return [*([told] if told else []), *entry.notes]


def _recorded(values: Values) -> list[Number]:
    """Those of the commands that were run before, source by source."""
    headlines = [headline(*key.split("/", 1)) for key in values if "/" in key]
    return [
        {
            "key": quantity.key,
            "name": quantity.title if "=" not in quantity.title else f"{quantity.axis}, {quantity.title}",
            "value": values[quantity.key][source],
            "help": quantity.axis,
            "source": _named(source),
        }
        for source in SOURCES
        for quantity in (*CORE, *ALL_ROWS, *READINGS, *PROBING, *FEATURES, *SCR, *TPP, *headlines)
        if source in values.get(quantity.key, {})
    ]


def _named(source: str) -> str:
    if source in COMMANDS:
        return COMMANDS[source]
    by_saebench = source.startswith(BY_SAEBENCH)
    return f"SAEBench, {source.removeprefix(BY_SAEBENCH)}" if by_saebench else f"vsae evaluate, {source}"


def _curves(curves: dict[str, Curve], member: str | None) -> list[dict[str, Any]]:
    """Of one member, under the names of a run alone; no more points than can be seen."""
    own = {
        log_key(stage, "", metric): curve
        for metric in DRAWN
        for stage in ("train", "val")
        if (curve := curves.get(log_key(stage, member or "", metric)))
    }
    return [
        {"name": name, "tokens": thinned([*curve]), "values": thinned([*curve.values()])} for name, curve in own.items()
    ]


def thinned(points: list[Any]) -> list[Any]:
    """Every so many of them, and the last."""
    step = -(-len(points) // MAX_POINTS)
    return points[::-1][::step][::-1]
