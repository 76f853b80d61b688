"""Contexts against a search through all of the dense latents."""

from typing import Any

import numpy as np
import pytest

from dense_firings import DenseFirings, dense_firings
from vsae_lightning.analysis.contexts import Context, Contexts, contexts
from vsae_lightning.errors import InputError


def found(made: DenseFirings, latent: int, wanted: Contexts) -> list[Context]:
    return contexts(made.firings.of(latent), made.excerpt, wanted, latent)


@pytest.mark.parametrize("signed", [False, True])
def test_the_strongest_are_those_of_a_search(signed: bool) -> None:
    made, wanted = dense_firings(signed=signed), Contexts(strongest=5, before=3, after=2)
    for latent in range(1, 7):
        column = made.dense[:, latent]
        ranked = sorted((-abs(value), place) for place, value in enumerate(column.tolist()) if value)
        strongest = [context for context in found(made, latent, wanted) if context.interval == 0]
        assert [context.peak for context in strongest] == [place for _, place in ranked[:5]]
        for context in strongest:
            first = context.peak // 10 * 10
            window = [place for place in range(context.peak - 3, context.peak + 3) if first <= place < first + 10]
            assert list(range(context.start, context.end)) == window
            here = {place - window[0]: column[place] for place in window if column[place]}
            assert dict(zip(context.offsets.tolist(), context.values.tolist(), strict=True)) == here
            assert context.sigma == made.sigma[context.peak, latent]


@pytest.mark.parametrize("signed", [False, True])
def test_samples_are_of_their_intervals_and_of_none_of_the_strongest(signed: bool) -> None:
    made, wanted = dense_firings(sequences=40, signed=signed), Contexts(strongest=4, intervals=3, per_interval=2)
    for latent in range(1, 7):
        strength = np.abs(made.dense[:, latent])
        ranked = np.argsort(-strength, kind="stable")
        rest = [place for place in ranked[4:].tolist() if strength[place]]
        chosen = found(made, latent, wanted)
        for interval, (low, high) in enumerate([(2 / 3, 1), (1 / 3, 2 / 3), (0, 1 / 3)], start=1):
            inside = {place for place in rest if low < strength[place] / strength.max() <= high}
            peaks = [context.peak for context in chosen if context.interval == interval]
            assert len(peaks) == len(set(peaks)) == min(2, len(inside))
            assert set(peaks) <= inside
            assert [strength[peak] for peak in peaks] == sorted((strength[peak] for peak in peaks), reverse=True)


def test_the_sample_depends_on_the_seed_and_on_nothing_else() -> None:
    made, other_batches = dense_firings(sequences=40), dense_firings(sequences=40, batch=11)
    peaks = [[context.peak for context in found(made, 6, Contexts(seed=seed))] for seed in (0, 1)]
    assert [context.peak for context in found(other_batches, 6, Contexts())] == peaks[0]
    assert peaks[0] != peaks[1]
    assert peaks[0][:12] == peaks[1][:12]


def test_of_equal_ones_the_first_in_the_text_is_the_strongest() -> None:
    made = dense_firings()
    events = made.firings.of(6)
    equal = events._replace(values=np.ones_like(events.values))
    chosen = contexts(equal, made.excerpt, Contexts(strongest=3, per_interval=0), 6)
    assert [context.peak for context in chosen] == events.positions[:3].tolist()


def test_of_one_that_never_fires_there_are_none() -> None:
    assert found(dense_firings(), 0, Contexts()) == []


@pytest.mark.parametrize("options", [{"strongest": -1}, {"intervals": 0}, {"per_interval": -2}, {"before": -1}])
def test_what_cannot_be_is_refused(options: Any) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(InputError, match=rf"contexts\.{name} is {value}; it must be at least"):
        Contexts(**options)
