"""The maps of a report: of its features, and of samples of the text."""

from typing import Any, NamedTuple

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.map_numbers import Number
from vsae_lightning.analysis.maps import FeatureMap, Maps, feature_maps
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.analysis.probing_labels import probing_labels
from vsae_lightning.analysis.samples import TITLE, Samples, clusters_of_strongest, sample_map
from vsae_lightning.dashboard.data_files import Write
from vsae_lightning.evaluation.evaluation import Track

AROUND = 12  # tokens of a sample's context, before it and after


class WrittenMaps(NamedTuple):
    """What there is, as the manifest says it.

    Attributes:
        maps: Names of the maps of features.
        samples: Whether there is one of samples.
    """

    maps: list[str]
    samples: bool


def write_maps(write: Write, observation: Observation, options: Maps, track: Track) -> WrittenMaps:
    """Draw the maps and write `maps/NAME` for each, and `samples`.

    Raises:
        InputError: A labelled set of `options` has too few texts.
    """
    labels = probing_labels(observation.subject, sets, track).names if (sets := options.label_names) else None
    maps = feature_maps(observation, options, track)
    for drawn in maps:
        write(f"maps/{drawn.name}", _feature_map(drawn, labels))
    samples = sample_map(observation, options)
    if samples:
        write("samples", _samples(samples, maps, observation.excerpt))
    return WrittenMaps([drawn.name for drawn in maps], samples is not None)


def _feature_map(drawn: FeatureMap, labels: list[str | None] | None) -> dict[str, Any]:
    return {
        "title": drawn.title,
        "how": drawn.how,
        "features": drawn.features,
        "x": drawn.drawn[:, 0],
        "y": drawn.drawn[:, 1],
        "cluster": drawn.cluster,
        "numbers": _numbers(drawn.numbers),
        "labels": labels and [labels[feature] for feature in drawn.features.tolist()],
    }


def _samples(samples: Samples, maps: list[FeatureMap], excerpt: Excerpt) -> dict[str, Any]:
    held_out = ["held out" if unseen else "trained on" for unseen in samples.held_out.tolist()]
    colours = [
        _colour("norm", "norm of the activation", "number", samples.norm),
        _colour("offset", "position in the sequence", "integer", samples.positions % excerpt.context_length),
        _colour("held_out", "held out or trained on", "category", held_out),
    ]
    for drawn in maps:
        name = f"cluster of the strongest feature, {drawn.title}"
        colours.append(_colour(f"cluster_{drawn.name}", name, "category", clusters_of_strongest(samples, drawn)))
    return {
        "title": TITLE,
        "how": samples.how,
        "x": samples.drawn[:, 0],
        "y": samples.drawn[:, 1],
        "cluster": samples.cluster,
        "colours": colours,
        "contexts": _contexts(samples, excerpt),
        "features": samples.strongest,
        "numbers": _numbers(samples.numbers),
    }


def _contexts(samples: Samples, excerpt: Excerpt) -> list[dict[str, Any]]:
    text, positions = excerpt.tokens.ravel(), samples.positions
    starts, ends = excerpt.around(positions, AROUND, AROUND)
    return [
        {"tokens": text[start:end], "at": at}
        for start, end, at in zip(starts.tolist(), ends.tolist(), (positions - starts).tolist(), strict=True)
    ]


def _colour(key: str, name: str, kind: str, values: Any) -> dict[str, Any]:
    return {"key": key, "name": name, "kind": kind, "values": values}


def _numbers(numbers: list[Number]) -> list[dict[str, Any]]:
    return [number._asdict() for number in numbers]
