"""A whole report of made-up features, so that its pages are tested without a model; its texts are hostile."""

from pathlib import Path
from typing import Any

import numpy as np

from vsae_lightning.dashboard.data_files import Write
from vsae_lightning.dashboard.report import new_report

HOSTILE: list[str | list[int]] = [
    "<script>document.title='stolen'</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"double\" 'single' \\ `back`",
    "&lt;&amp;&#x27;",
    "\n",
    "\t",
    "\x00",
    "\x1b[31m",
    "\u202eevil",
    "\u2066\u2028",
    " שלום",
    " مرحبا",
    [0xF0, 0x9F],  # of a crown, together with the next two
    [0x91],
    [0x91],
    [0xFF],
    "👩\u200d👧",
]
SHOWN = [
    "<script>document.title='stolen'</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"double\" 'single' \\ `back`",
    "&lt;&amp;&#x27;",
    "↵",
    "⇥",
    "‹U+0000›",
    "‹U+001B›[31m",
    "‹U+202E›evil",
    "‹U+2066›‹U+2028›",
    " שלום",
    " مرحبا",
    "👑",
    "�",
    "👩\u200d👧",
]
"""What a person sees of HOSTILE in a row."""
WORDS = [" king", " queen", " of", " the", " and", " castle", " river", " King", "s", "ing", ",", "."]
VOCABULARY = [*HOSTILE, *WORDS]
KING = len(HOSTILE)
SHARD = 64
DEAD = 10
"""Every tenth feature is dead."""
BARE = 7
"""The feature that has no page of its own."""


def write_report(folder: Path, d_sae: int = 130, kind: str = "VSAE", detailed: int | None = None) -> Write:
    """Into an empty folder: pages, and data for all but the map and the comparison.

    Feature 0 fires on " king"; 1 on everything hostile; every tenth from 10 on is dead; 7 has no page.
    `detailed`: so many features have pages; None: all.
    """
    write = new_report(folder)
    write("manifest", manifest(d_sae, kind))
    write("vocabulary", {"tokens": VOCABULARY})
    write("overview", overview(d_sae))
    write("columns", columns(d_sae, kind))
    write("scores", scores())
    pages = [feature(number, d_sae) for number in range(d_sae if detailed is None else detailed)]
    for first in range(0, len(pages), SHARD):
        write(f"features/{first // SHARD:04d}", {"first": first, "features": pages[first : first + SHARD]})
    return write


def manifest(d_sae: int, kind: str) -> dict[str, Any]:
    """Of a run whose name is hostile too."""
    has = {"posterior": kind == "VSAE", "maps": [], "compare": False, "scores": True, "samples": False}
    return {"name": "run <b>1</b>", "kind": kind, "d_sae": d_sae, "has": has, "shard": SHARD, "detailed": None}


def is_dead(number: int) -> bool:
    """Of which it is known in advance."""
    return number >= DEAD and number % DEAD == 0


def columns(d_sae: int, kind: str = "VSAE") -> dict[str, Any]:
    """Density falls with the number of the feature; `nearest` is the next one; `predicate_f1` is not always known."""
    numbers = np.arange(d_sae)
    dead = np.array([is_dead(number) for number in range(d_sae)])
    density = np.where(dead, 0.0, 0.5 / (1 + numbers))
    known = [None if dead[number] or number % 7 == 0 else number % 5 / 4 for number in range(d_sae)]
    rng = np.random.default_rng(0)
    posterior = [
        _column("kl", "KL", "Mean KL of the latent, in nats.", rng.uniform(0, 2, d_sae)),
        _column("sigma", "sigma", "Mean posterior deviation.", rng.uniform(0.1, 1, d_sae)),
    ]
    tops = [[] if dead[number] else top_tokens(number) for number in range(d_sae)]
    return {
        "columns": [
            _column("density", "density", "Share of the rows in which the feature fires.", density),
            _column("max", "max", "Largest value.", np.where(dead, 0.0, 5 + np.cos(numbers))),
            _column("decoder_norm", "decoder norm", "Length of the decoder's row.", np.ones(d_sae)),
            _column("nearest_cosine", "nearest cosine", "To the nearest other row.", rng.uniform(0, 1, d_sae)),
            _column(
                "nearest", "nearest", "The feature whose decoder row is nearest.", (numbers + 1) % d_sae, "integer"
            ),
            _column("first_seen", "first seen", "Tokens of training before it fired.", 4096 * (numbers % 9), "integer"),
            _column("predicate_f1", "rule F1", "How well a simple rule predicts firing.", known),
            *(posterior if kind == "VSAE" else []),
        ],
        "top_tokens": tops,
        "promoted": [[KING + (number + shift) % len(WORDS) for shift in range(5)] for number in range(d_sae)],
    }


def _column(key: str, name: str, help: str, values: Any, kind: str = "number") -> dict[str, Any]:  # noqa: A002
    return {"key": key, "name": name, "help": help, "kind": kind, "values": values}


def top_tokens(number: int) -> list[int]:
    """Tokens that a feature fires on."""
    if number == 1:
        return list(range(8))
    return [KING + (number + shift * number) % len(WORDS) for shift in range(min(number + 1, 8))]


def feature(number: int, d_sae: int = 130) -> dict[str, Any] | None:
    """What its page shows; the nearest features are the next ones."""
    if number == BARE:
        return None
    fires = not is_dead(number)
    return {
        "feature": number,
        "histogram": {"edges": np.linspace(0, 6, 21), "counts": [4000 >> place for place in range(20)]}
        if fires
        else None,
        "intervals": intervals() if fires else [],
        "contexts": contexts(number) if fires else [],
        "promoted": [[KING + rank, 2.5 - rank / 4] for rank in range(10)],
        "suppressed": [[rank, rank / 4 - 2.5] for rank in range(10)],
        "near_decoder": [[(number + 1 + rank) % d_sae, 0.9 - rank / 10] for rank in range(5)],
        "near_firing": [[(number + 2) % d_sae, 0.3]] if fires else [],
        "predicate": predicate() if fires else None,
    }


def intervals() -> list[dict[str, Any]]:
    """The strongest, and five of equal width."""
    parts = [{"name": f"{part} of 5", "from": 1.2 * (part - 1), "to": 1.2 * part} for part in range(5, 0, -1)]
    return [{"name": "strongest", "from": 4.2, "to": 6.0}, *parts]


def predicate() -> dict[str, Any]:
    """A rule, hostile too."""
    text = "the token is one of ' king', '<i>'"
    return {"text": text, "tokens": [KING], "f1": 0.8123, "precision": 0.9, "recall": 0.74}


def contexts(number: int) -> list[dict[str, Any]]:
    """The strongest of feature 1 holds all that is hostile; the others are words around the peak."""
    rng = np.random.default_rng(number)
    made = []
    for index in range(12 + 15):
        interval = 0 if index < 12 else 1 + (index - 12) // 3
        value = 6 - index / 6 if interval == 0 else 6.6 - 1.2 * interval
        tokens = [KING + int(word) for word in rng.integers(0, len(WORDS), 25)]
        tokens[12] = KING + number % len(WORDS)
        values = [[12, value], [15, value / 3]]
        if number == 1 and index == 0:
            tokens, values = list(range(len(HOSTILE))), [[0, value], [4, 2.0], [13, 3.0], [10, -1.0]]
        context = {"interval": interval, "tokens": tokens, "at": values[0][0], "values": values}
        made.append({**context, "position": 1000 + index, "held_out": index % 3 > 0, "sigma": 0.25 + index / 100})
    return made


def scores() -> dict[str, Any]:
    """Of feature 0 alone."""
    found = {"explanation": "words for <royalty>", "detection": 0.81, "fuzzing": None, "examples": 20}
    return {"how": {"model": "a-model", "date": "2026-01-02", "tokens": 12345}, "features": {"0": found}}


def overview(d_sae: int) -> dict[str, Any]:
    """Numbers of a run that was tested, and its curves."""
    steps = np.arange(1, 60) * 4096
    falling = 1 / np.sqrt(np.arange(1, 60))
    curves = {"train/loss": falling, "val/loss": falling * 1.1, "train/fvu": falling / 2, "train/l0": 32 + falling}
    return {
        "run": [
            {"name": "model", "value": "a <model>"},
            {"name": "hook", "value": "blocks.2.hook_resid_post"},
            {"name": "sparsifier", "value": "TopK"},
            {"name": "k", "value": "32"},
        ],
        "text": {"tokens": 500_000, "rows": 496_094, "held_out_rows": 99_219, "context_length": 128, "first_offset": 1},
        "warnings": ["warning: the held-out <b>L0</b> is low"],
        "numbers": [
            {
                "key": "explained_variance",
                "name": "explained variance",
                "value": 0.8123,
                "help": "1 - FVU.",
                "source": "",
            },
            {
                "key": "l0",
                "name": "L0",
                "value": 31.97,
                "help": "Features that fire in a row, on average.",
                "source": "",
            },
            {"key": "alive_fraction", "name": "alive", "value": 0.9, "help": "Share that fires at all.", "source": ""},
            {"key": "dead", "name": "dead", "value": d_sae // 10, "help": "Never fire.", "source": ""},
            {"key": "loss_recovered", "name": "loss recovered", "value": None, "help": "", "source": "test.json"},
        ],
        "curves": [{"name": name, "tokens": steps, "values": values} for name, values in curves.items()],
        "density": {
            "edges": np.linspace(-6, 0, 31),
            "counts": [max(0, 160 - (place - 18) ** 2) for place in range(30)],
            "dead": d_sae // 10,
            "dense": 4,
        },
        "l0": {"values": [30, 31, 32, 33], "counts": [10, 200, 4000, 50]},
        "config": "model:\n  class_path: VSAE\n  note: </pre><script>alert(1)</script>\n",
        "reproduce": ["vsae fit --config config.yaml", "vsae analyze lightning_logs/version_0"],
        "made": {"date": "2026-01-02", "vsae_lightning": "0.1.0"},
    }
