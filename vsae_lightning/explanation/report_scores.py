"""Explains and scores the features of a report, and writes what came of it into the report."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from vsae_lightning.dashboard.data_files import write_data
from vsae_lightning.dashboard.seal import is_sealed, write_seal
from vsae_lightning.errors import InputError
from vsae_lightning.explanation.answers import Answers
from vsae_lightning.explanation.endpoint import BudgetSpent, Endpoint, NotAnswered
from vsae_lightning.explanation.material import Material, material
from vsae_lightning.explanation.report_data import ReportData
from vsae_lightning.explanation.score import Score, remembering, score, tokens_to_ask
from vsae_lightning.explanation.settings import Scoring

SCORES = ("detection", "fuzzing")
FAILURES = 3  # so many features in a row without an answer, and no other one is tried


def score_report(folder: Path, settings: Scoring, console: Console) -> None:
    """Write `scores` of a report that is there, and seal it anew if it was sealed.

    What is expected to be spent is said before anything is sent. Every answer is kept in the folder FOLDER_answers
    beside the report, so that a run that was killed, or that came to the end of its budget, goes on when called again,
    and nothing is asked twice of the same model.

    Args:
        folder: Of the report.
        settings: Which features, by which language model.
        console: Where it is told how it goes.

    Raises:
        InputError: There is no such report, feature or endpoint; it would cost more than the budget; or the endpoint
            gives no answers; or a link leads the answers elsewhere.
    """
    was_sealed = is_sealed(folder)
    scorer = _Scorer(folder, settings)
    order = _chosen(scorer.report.living(), settings)
    costs = {feature: scorer.tokens_to_ask(feature) for feature in sorted(order)}
    known = [cost for feature in order if (cost := costs[feature]) is not None]
    seldom = f"; {len(order) - len(known)} more fire too seldom" if len(known) < len(order) else ""
    console.print(f"score: {len(known)} features{seldom}; about {sum(known):,} tokens to go", highlight=False)
    _require_within(settings.budget_tokens, known)
    try:
        asyncio.run(scorer.run([feature for feature in order if costs[feature] is not None], console))
    finally:
        scorer.write()
        if was_sealed:  # never one whose other files are not known
            write_seal(folder)
    scorer.require_answers()
    console.print(f"score: {scorer.summary(len(known))}", highlight=False, markup=False)


def _chosen(living: list[int], settings: Scoring) -> list[int]:
    """The features, in an order of which any beginning is a random sample; as given where they are."""
    if isinstance(settings.features, int):
        return np.random.default_rng(settings.seed).permutation(living)[: settings.features].tolist()
    if strange := set(settings.features) - set(living):
        raise InputError(f"scoring.features has {min(strange)}, which never fires in this report or has no page in it.")
    return list(dict.fromkeys(settings.features))


def _require_within(budget: int, costs: list[int]) -> None:
    if sum(costs) > budget:
        fitting = int((np.cumsum(costs) <= budget).sum())
        raise InputError(
            f"scoring.budget_tokens is {budget:,}, and {len(costs)} features take about {sum(costs):,}; give as much"
            f"{f', or --scoring.features {fitting}, which fit' if fitting else ''}."
        )


class _Scorer:
    def __init__(self, folder: Path, settings: Scoring) -> None:
        self.folder = folder
        self.settings = settings
        self.answers = folder.parent / f"{folder.name}_answers"
        if self.answers.is_symlink():
            raise InputError(f"{str(self.answers)!r} is a link to elsewhere; remove it, or give --output.")
        self.report = ReportData(folder)
        self.endpoint = Endpoint(settings)
        self.scores: dict[int, Score] = {}
        self._failures: list[str] = []
        self._in_a_row = 0

    def tokens_to_ask(self, feature: int) -> int | None:
        """None where it fires too seldom."""
        found = self._material(feature)
        return None if found is None else tokens_to_ask(found, self.endpoint, self._answers(feature))

    async def run(self, features: list[int], console: Console) -> None:
        """Score features, several at a time."""
        waiting = iter(features)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("score: features", total=len(features))
            async with self.endpoint:
                await asyncio.gather(*(self._work(waiting, progress, task) for _ in range(self.settings.concurrency)))

    def require_answers(self) -> None:
        """Raise `InputError` where there were failures only."""
        if self._failures and not self.scores:
            raise self._silence()

    def write(self) -> None:
        """What there is so far, if any."""
        explained = {feature: found for feature, found in sorted(self.scores.items()) if found.explanation is not None}
        if not explained:
            return
        how: dict[str, Any] = {"model": self.endpoint.model, "date": datetime.now(UTC).date().isoformat()}
        how |= {"tokens": sum(found.tokens for found in self.scores.values())}
        features = {feature: _entry(found) for feature, found in explained.items()}
        write_data(self.folder, "scores", {"how": how, "features": features})
        has = self.report.manifest["has"] | {"scores": True}
        write_data(self.folder, "manifest", self.report.manifest | {"has": has})

    def summary(self, wanted: int) -> str:
        """How it went, in one line."""
        parts = [f"{len(self.scores)} of {wanted} features, {self.endpoint.spent:,} tokens"]
        parts += [f"{name} {_mean([getattr(one, name) for one in self.scores.values()])}" for name in SCORES]
        if self._failures:
            parts.append(f"{len(self._failures)} not answered ({self._failures[-1]})")
        if len(self.scores) + len(self._failures) < wanted:
            parts.append("stopped at scoring.budget_tokens; the same command goes on")
        return "; ".join(parts)

    def _material(self, feature: int) -> Material | None:
        return material(feature, self.report.evidence(feature), self.settings)

    def _answers(self, feature: int) -> Answers:
        return Answers(self.answers / f"{feature}.json")

    async def _work(self, waiting: Iterator[int], progress: Progress, task: Any) -> None:
        for feature in waiting:
            found = self._material(feature)
            assert found is not None
            try:
                self.scores[feature] = await score(found, remembering(self.endpoint, self._answers(feature)))
                self._in_a_row = 0
            except BudgetSpent:
                return
            except NotAnswered as failure:
                self._fail(str(failure))
            progress.advance(task)

    def _fail(self, why: str) -> None:
        self._failures.append(why)
        self._in_a_row += 1
        if self._in_a_row >= FAILURES:
            raise self._silence()

    def _silence(self) -> InputError:
        return InputError(
            f"scoring.url: {self.endpoint.host} does not answer: {self._failures[-1]}; what it answered before is "
            "kept, and the same command goes on."
        )


def _entry(found: Score) -> dict[str, Any]:
    return {name: value for name, value in found._asdict().items() if name != "tokens"}


def _mean(values: list[float | None]) -> str:
    """Over the features that have the score, with its standard error."""
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    error = f" ± {stdev(known) / sqrt(len(known)):.3f}" if len(known) > 1 else ""
    return f"{mean(known):.3f}{error}"
