"""A report whose features fire on one word each, in the shape of the contract, so that right answers are known."""

import random
from pathlib import Path
from typing import Any

from vsae_lightning.dashboard.data_files import write_data

WORDS = [" king", " sea", " bread", " run", " the", " of", " and", " old", " red", " tree", " song", " wall"]
LENGTH, FIRST_OFFSET, SIDE = 32, 1, 6
FEATURES = 4  # feature j fires on WORDS[j]; the last one is dead


def write_report(folder: Path, sequences: int = 300, words: list[Any] | None = None) -> list[int]:
    """Write what scoring reads of a report; returns its text, as indices of words.

    Args:
        folder: Of the report.
        sequences: How many of `LENGTH` random words.
        words: The vocabulary, of at least as many as `WORDS`.
    """
    chance = random.Random(0)
    rare = [0.05, 0.05, 0.05] + [1.0] * (len(WORDS) - 3)
    text = chance.choices(range(len(WORDS)), rare, k=sequences * LENGTH)
    manifest = {"name": "tiny", "kind": "SAE", "d_sae": FEATURES, "shard": 64, "detailed": None}
    has = {"posterior": False, "maps": [], "compare": False, "scores": False, "samples": False}
    density = [text.count(feature) / len(text) if feature < FEATURES - 1 else 0.0 for feature in range(FEATURES)]
    write_data(folder, "manifest", {**manifest, "has": has})
    write_data(folder, "vocabulary", {"tokens": words or WORDS})
    write_data(folder, "columns", {"columns": [{"key": "density", "values": density}]})
    shown = [_contexts(text, feature) for feature in range(FEATURES - 1)] + [[]]
    features = [{"feature": feature, "contexts": contexts} for feature, contexts in enumerate(shown)]
    write_data(folder, "features/0000", {"first": 0, "features": features})
    windows = [_window(text, start) for start in chance.sample(range(FIRST_OFFSET, len(text)), 60)]
    firing = {
        feature: [index for index, window in enumerate(windows) if feature in _read(window)]
        for feature in range(FEATURES - 1)
    }
    shape = {"context_length": LENGTH, "first_offset": FIRST_OFFSET}
    write_data(folder, "windows", {**shape, "windows": windows, "firing": firing})
    return text


def _contexts(text: list[int], feature: int) -> list[dict[str, Any]]:
    places = (place for place, token in enumerate(text) if token == feature and place % LENGTH >= FIRST_OFFSET)
    peaks = list({place // LENGTH: place for place in places}.values())  # one of a sequence: none overlap
    contexts = []
    for number, peak in enumerate(peaks[:27]):
        window = _window(text, peak)
        at, tokens = peak - window["position"], window["tokens"]
        fires = [
            [place, -2.0 if place == at else -1.0]  # signed: |value| decides
            for place, token in enumerate(tokens)
            if token == feature and (window["position"] + place) % LENGTH >= FIRST_OFFSET
        ]
        interval = 0 if number < 12 else 1 + (number - 12) // 3
        contexts.append({"interval": interval, "tokens": tokens, "at": at, "values": fires, "position": peak})
    return contexts


def _window(text: list[int], middle: int) -> dict[str, Any]:
    first = middle - middle % LENGTH
    start, end = max(first, middle - SIDE), min(first + LENGTH, middle + SIDE + 1)
    return {"tokens": text[start:end], "position": start}


def _read(window: dict[str, Any]) -> list[int]:
    return [
        token for place, token in enumerate(window["tokens"]) if (window["position"] + place) % LENGTH >= FIRST_OFFSET
    ]
