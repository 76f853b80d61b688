"""Where each latent fires, and how strongly: the index that all of an analysis is read from."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.evaluation.firing import ActiveSets

CHUNK_FIRINGS = 2**22


class Events(NamedTuple):
    """The firings of one latent.

    Attributes:
        positions: Where, see `Excerpt`; rising.
        values: The latent there; not 0.
        sigma: The standard deviation of its posterior there; None where that is not learned.
    """

    positions: Int[np.ndarray, " events"]
    values: Float[np.ndarray, " events"]
    sigma: Float[np.ndarray, " events"] | None


class _Chunk(NamedTuple):
    """Firings sorted by latent, then by position; those of latent j are `ends[j]:ends[j + 1]`."""

    ends: Int[np.ndarray, " d_sae_and_one"]
    events: Events

    def of(self, latent: int) -> Events:
        where = slice(self.ends[latent], self.ends[latent + 1])
        sigma = self.events.sigma
        return Events(self.events.positions[where], self.events.values[where], None if sigma is None else sigma[where])

    def coordinates(
        self, latents: Int[np.ndarray, " some"], column_of: Int[np.ndarray, " positions"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Row, column and value of some latents' firings, a row a latent; those without a column are left out."""
        starts, counts = self.ends[latents], self.ends[latents + 1] - self.ends[latents]
        row = np.repeat(np.arange(len(latents), dtype=np.int32), counts)
        place = np.arange(len(row)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        inside = self.events.positions[place] < len(column_of)
        row, place = row[inside], place[inside]
        column = column_of[self.events.positions[place]]
        met = column >= 0
        return row[met], column[met], self.events.values[place[met]]


class Firings:
    """An inverted index of firings; takes 8 bytes each, 12 with a learned sigma.

    Args:
        d_sae: Number of latents.

    Attributes:
        counts: How often each latent fires.
    """

    def __init__(self, d_sae: int) -> None:
        self.d_sae = d_sae
        self.counts = np.zeros(d_sae, dtype=np.int64)
        self._chunks: list[_Chunk] = []
        self._fresh: list[tuple[Int[np.ndarray, " n"], Events]] = []
        self._num_fresh = 0

    def add(
        self, positions: Int[np.ndarray, " rows"], latents: Latents, sigma: Float[Tensor, "rows d_sae"] | None = None
    ) -> None:
        """Take in a batch, whose positions lie behind those of all before it."""
        active = ActiveSets.of(latents)
        values = latents.values[latents.values.abs() > 0]
        of_latent = active.latents.int().cpu().numpy()
        sigmas = None if sigma is None else sigma[active.rows, active.latents].float().cpu().numpy()
        where = positions[active.rows.cpu().numpy()].astype(np.int32)
        self._fresh.append((of_latent, Events(where, values.float().cpu().numpy(), sigmas)))
        self.counts += np.bincount(of_latent, minlength=self.d_sae)
        self._num_fresh += len(of_latent)
        if self._num_fresh >= CHUNK_FIRINGS:
            self._sort()

    def of(self, latent: int) -> Events:
        """The firings of a latent, in the order of the text."""
        self._sort()
        parts = [chunk.of(latent) for chunk in self._chunks]
        return _joined(parts)

    def matrix(self, latents: Int[np.ndarray, " some"], positions: Int[np.ndarray, " rows"]) -> scipy.sparse.csr_array:
        """[some latents, rows]: their values at rising positions, in float32."""
        self._sort()
        column_of = np.full(int(positions[-1]) + 1 if len(positions) else 0, -1, dtype=np.int32)
        column_of[positions] = np.arange(len(positions), dtype=np.int32)
        parts = [chunk.coordinates(latents, column_of) for chunk in self._chunks]
        shape = (len(latents), len(positions))
        if not parts:
            return scipy.sparse.csr_array(shape, dtype=np.float32)
        row, column, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return scipy.sparse.csr_array((values, (row, column)), shape=shape)

    def _sort(self) -> None:
        if not self._fresh:
            return
        of_latent = np.concatenate([latents for latents, _ in self._fresh])
        events = _joined([events for _, events in self._fresh])
        order = np.argsort(of_latent, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(of_latent, minlength=self.d_sae))])
        sigma = None if events.sigma is None else events.sigma[order]
        self._chunks.append(_Chunk(ends, Events(events.positions[order], events.values[order], sigma)))
        self._fresh, self._num_fresh = [], 0


def _joined(parts: list[Events]) -> Events:
    if not parts:
        return Events(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32), None)
    sigmas = [part.sigma for part in parts if part.sigma is not None]
    return Events(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate(sigmas) if sigmas else None,
    )
