"""The file of random windows, of which each feature's silent ones are told apart from its contexts."""

from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.analysis.windows import random_windows
from vsae_lightning.dashboard.data_files import Write


def write_windows(write: Write, firings: Firings, excerpt: Excerpt, wanted: Contexts) -> None:
    """Write `windows`.

    `{first_offset, context_length, windows: [{tokens, position}, ...], firing: {feature: [window, ...], ...}}`, where
    `position` is that of the first token, and `firing` says for each feature in which windows it fires; a token whose
    offset in its sequence is below `first_offset` was context alone, so that nothing is known to fire there or not.

    Args:
        write: Writes a file of data.
        firings: Of an autoencoder in the text.
        excerpt: The text.
        wanted: How the contexts are cut, as which the windows are.
    """
    found = random_windows(firings, excerpt, wanted)
    text = excerpt.tokens.ravel()
    windows = [
        {"tokens": text[start:end], "position": start}
        for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)
    ]
    shape = {"first_offset": excerpt.first_offset, "context_length": excerpt.context_length}
    write("windows", {**shape, "windows": windows, "firing": found.firing})
