"""RUN ... to the autoencoders that they are, each with all that is known of it, and what would make the rest."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vsae_lightning.autoencoders.storage import is_checkpoint
from vsae_lightning.comparison.curves import CURVES, Curve, read_curves
from vsae_lightning.comparison.quantities import TYPE_IDS
from vsae_lightning.comparison.settings import Settings, described, members_of, printable, settings_of
from vsae_lightning.comparison.sources import (
    Values,
    newest,
    owner,
    read_metrics,
    read_results,
    sources_of,
    values_of,
    weights_of,
)
from vsae_lightning.config_files import read_config
from vsae_lightning.errors import InputError, did_you_mean
from vsae_lightning.evaluation.results import weights_digest
from vsae_lightning.interop.public import public_value
from vsae_lightning.loading import is_export, load, origin_of
from vsae_lightning.log_keys import log_key
from vsae_lightning.runs import CHECKPOINT, place_of, run_of
from vsae_lightning.trust import Trust

Which = tuple[Path, str | None]


@dataclass(frozen=True)
class Entry:
    """One autoencoder: of a run, of a member of an ensemble, or exported.

    Attributes:
        name: Of its folder, and its member.
        settings: Without seeds; two entries of equal settings differ in chance alone.
        seeds: Of everything, of the module, of the data; empty where they are not known.
        values: By quantity, then by source: `test`, `validate`, `fit`, or SAEBench's name of an
            evaluation, after `saebench ` where its own code computed it.
        curves: By metric: value by tokens seen.
        missing: Commands that would make what is not there.
        notes: What is there, and was left out.
        digest: Reads the weights; gives their SHA-256, or None where there are none.
        published: The settings as an export of a run has them; None of an export.
    """

    name: str
    settings: Settings
    seeds: tuple[Any, ...]
    values: Values
    curves: dict[str, Curve]
    missing: list[str]
    notes: list[str]
    digest: Callable[[], str | None] = field(default=lambda: None, compare=False)
    published: Settings | None = None


def gather(runs: list[str], trust: Trust = ()) -> list[Entry]:
    """Every autoencoder of RUN ..., each once, in the order given.

    Raises:
        InputError: A RUN that is none, has no metrics at all, or whose files cannot be read.
    """
    entries: dict[Which, Entry] = {}
    for run in runs:
        try:
            place, member = _place(run)
            found = _of_place(run, place, member, trust)
        except OSError as error:
            raise InputError(f"RUN: {run[:100]!r} cannot be read: {error.strerror}.") from None
        for entry in found.values():
            if not entry.values and not entry.curves:
                raise _nothing(place)
        entries |= found
    return list(entries.values())


def entry_of(place: Path, member: str | None) -> Entry:
    """One autoencoder, whether it has metrics or not.

    Args:
        place: A run folder, a checkpoint or an exported folder.
        member: Of an ensemble.

    Raises:
        InputError: Its files cannot be read.
    """
    (entry,) = _of_place(str(place), place, member).values()
    return entry


def _place(run: str) -> Which:
    """Where RUN is, and the member after its colon."""
    place, member = place_of(run)
    if not place.exists():
        raise InputError(
            f"RUN: {run!r} does not exist; give a run folder such as lightning_logs/version_0, a checkpoint, "
            "an exported folder, or last."
        )
    return place, member


def _of_place(run: str, place: Path, member: str | None, trust: Trust = ()) -> dict[Which, Entry]:
    if _is_export(place):
        if member is not None:
            raise InputError(f"RUN: {run!r}: there is no member {member!r}; it is an export of one autoencoder.")
        return {(place.resolve(), None): _of_export(place, trust)}
    folder = run_of(place)
    config = read_config(folder / "config.yaml")
    members = members_of(config)
    if member is not None and member not in members:
        known = f"its members are {', '.join(members)}" if members else "it is no ensemble"
        raise InputError(f"RUN: {run!r}: there is no member {member!r}; {known}.{did_you_mean(member, members)}")
    chosen: list[str | None] = [member] if member else [*members] or [None]
    checkpoint = folder / CHECKPOINT if place == folder else place
    logged, results = read_metrics(folder, checkpoint), read_results(folder)
    curves = read_curves(folder, config, ("train", "val"))
    entries = {}
    for one in chosen:
        own = [result for result in results if owner(result, members) == one]
        current, told = _of_these_weights(own, checkpoint, one, trust) if is_checkpoint(checkpoint) else (own, [])
        values = values_of(logged, one or "", newest(current))
        keys = {key: log_key("train", one or "", key) for key in CURVES}
        drawn = {key: curves[name] for key, name in keys.items() if name in curves}
        name = printable(folder.resolve().name + (f":{one}" if one else ""))
        missing = _missing(folder, one, values, is_run=True)
        told += _of_earlier_step(folder, logged.get("fit", {}), curves)
        digest = partial(_digest, checkpoint, one, trust)
        settings, seeds = settings_of(config, one)
        published, _ = settings_of(public_value(config), one)
        entries[folder.resolve(), one] = Entry(name, settings, seeds, values, drawn, missing, told, digest, published)
    return entries


def _is_export(place: Path) -> bool:
    return place.is_dir() and not (place / "config.yaml").is_file() and is_export(place)


def _of_export(folder: Path, trust: Trust) -> Entry:
    name = printable(folder.resolve().name)
    origin = origin_of(folder)
    current, told = _of_these_weights(read_results(folder), folder, None, trust)
    values = values_of({"test": origin.metrics, "fit": origin.metrics}, "", newest(current))
    missing = _missing(folder, None, values, is_run=False)
    if origin.training and not members_of(origin.training):
        settings, seeds = settings_of(origin.training, None)
        return Entry(name, settings, seeds, values, {}, missing, told, partial(_digest, folder, None, trust))
    described_as = origin.autoencoder or load(folder, trust=trust).config()
    settings = described(described_as, name)
    return Entry(name, settings, (), values, {}, missing, told, partial(_digest, folder, None, trust))


def _of_these_weights(
    results: list[dict[str, Any]], place: Path, member: str | None, trust: Trust
) -> tuple[list[dict[str, Any]], list[str]]:
    """Without those of weights that were here before; and what tells of them."""
    if not any(weights_of(result) for result in results):
        return results, []
    digest = weights_digest(load(place, member=member, trust=trust))
    current = [result for result in results if weights_of(result) in (None, digest)]
    stale = {result.get("eval_type_id") for result in results if result not in current}
    if not stale:
        return results, []
    suites = [suite for suite, type_ids in TYPE_IDS.items() if stale.intersection(type_ids)]
    count = len(results) - len(current)
    told = f"{count} result{'s' * (count > 1)} of other weights {'are' if count > 1 else 'is'} left out"
    return current, [f"{told}: {_evaluate(place, member, suites)} makes {'them' if count > 1 else 'it'} anew"]


def _digest(place: Path, member: str | None, trust: Trust) -> str | None:
    return weights_digest(load(place, member=member, trust=trust)) if place.exists() else None


def _of_earlier_step(folder: Path, fit: dict[str, Any], curves: dict[str, Curve]) -> list[str]:
    """A warning where the validation that fit.json tells of is of an earlier step than the checkpoint."""
    tokens = fit.get("train/tokens")
    validated = max((step for name, curve in curves.items() if name.startswith("val/") for step in curve), default=None)
    if not isinstance(tokens, int | float) or validated is None or validated >= tokens:
        return []
    again = printable(f"vsae validate {shlex.quote(str(folder))}")
    return [
        f"warning: fit.json has the validation after {validated:,} training tokens, but the checkpoint is of "
        f"{int(tokens):,}: {again} makes the metrics of the checkpoint"
    ]


def _nothing(place: Path) -> InputError:
    folder, command = (place, "evaluate") if _is_export(place) else (run_of(place), "test")
    return InputError(f"RUN: {str(folder)!r} has no metrics yet; vsae {command} {shlex.quote(str(folder))} makes them.")


def _missing(folder: Path, member: str | None, values: Values, is_run: bool) -> list[str]:
    """Commands that make what is not there; an export can be evaluated, but not tested."""
    sources = {source for by_source in values.values() for source in by_source}
    absent = [suite for suite in TYPE_IDS if not sources.intersection(sources_of(suite))]
    untested = is_run and "test" not in sources
    if untested or (is_run and "ce_loss_score" in values):
        absent = [suite for suite in absent if suite != "core"]  # the test has its metrics
    evaluate = [_evaluate(folder, member, absent)] if absent else []
    return [printable(f"vsae test {shlex.quote(str(folder))}")] * untested + evaluate


def _evaluate(place: Path, member: str | None, suites: list[str]) -> str:
    of_member = f" --member {shlex.quote(member)}" if member else ""
    return printable(f"vsae evaluate {shlex.quote(str(place))}{of_member} --suite {','.join(suites)}")
