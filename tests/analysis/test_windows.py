"""Random windows are cut as contexts are, and what fires in them is what fires there."""

from pathlib import Path

import numpy as np
import torch

from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.analysis.windows import random_windows
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.dashboard.data_files import read_data, writer
from vsae_lightning.dashboard.window_files import write_windows

SEQUENCES, LENGTH, FIRST, D_SAE = 7, 16, 3, 5
WANTED = Contexts(before=4, after=2)


def observed() -> tuple[Firings, Excerpt, np.ndarray]:
    """Firings in a text, and the latents [positions, d_sae] of which it is: 0 where nothing was read."""
    chance = np.random.default_rng(1)
    tokens = chance.integers(0, 100, (SEQUENCES, LENGTH)).astype(np.int32)
    dense = chance.random((SEQUENCES * LENGTH, D_SAE)) * (chance.random((SEQUENCES * LENGTH, D_SAE)) < 0.1)
    dense[np.arange(len(dense)) % LENGTH < FIRST] = 0
    dense[:, 4] = 0
    read = np.flatnonzero(np.arange(len(dense)) % LENGTH >= FIRST)
    firings = Firings(D_SAE)
    firings.add(read, DenseLatents(torch.tensor(dense[read], dtype=torch.float32)))
    return firings, Excerpt(tokens, 2, FIRST), dense


def test_windows_are_around_tokens_that_were_read_and_end_with_their_sequence() -> None:
    firings, excerpt, _ = observed()
    rows = SEQUENCES * (LENGTH - FIRST)
    windows = random_windows(firings, excerpt, WANTED, count=10 * rows)
    middles = [s * LENGTH + offset for s in range(SEQUENCES) for offset in range(FIRST, LENGTH)]
    assert windows.starts.tolist() == [max(m - m % LENGTH, m - 4) for m in middles]
    assert windows.ends.tolist() == [min(m - m % LENGTH + LENGTH, m + 3) for m in middles]


def test_firing_is_brute_force() -> None:
    firings, excerpt, dense = observed()
    windows = random_windows(firings, excerpt, WANTED, count=40, seed=3)
    assert len(windows.starts) == 40
    spans = list(zip(windows.starts.tolist(), windows.ends.tolist(), strict=True))
    expected = {
        latent: [index for index, (start, end) in enumerate(spans) if dense[start:end, latent].any()]
        for latent in range(4)  # the last one is dead
    }
    assert {latent: where.tolist() for latent, where in windows.firing.items()} == expected


def test_a_seed_is_a_choice() -> None:
    firings, excerpt, _ = observed()
    one, same, other = (random_windows(firings, excerpt, WANTED, 20, seed).starts.tolist() for seed in (0, 0, 1))
    assert one == same != other
    assert one == sorted(set(one))


def test_the_file_has_the_tokens_of_the_windows(tmp_path: Path) -> None:
    firings, excerpt, dense = observed()
    write_windows(writer(tmp_path), firings, excerpt, WANTED)
    found = read_data(tmp_path, "windows")
    text = excerpt.tokens.ravel().tolist()
    assert (found["first_offset"], found["context_length"]) == (FIRST, LENGTH)
    for index, window in enumerate(found["windows"]):
        start, end = window["position"], window["position"] + len(window["tokens"])
        assert window["tokens"] == text[start:end]
        for latent in range(D_SAE):
            assert (index in found["firing"].get(str(latent), [])) == bool(dense[start:end, latent].any())
