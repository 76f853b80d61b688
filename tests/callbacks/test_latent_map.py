"""`LatentMap`: its images and its projector, read back from the files of a run."""

from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

import vsae_lightning as vl
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.callbacks import LatentMap
from vsae_lightning.callbacks.latent_map import _histogram, _map

D_IN, STEPS, ACCUMULATED = 6, 4, 2


class Rows:
    def __iter__(self) -> Iterator[ActivationBatch]:
        generator = torch.Generator().manual_seed(0)
        for step in range(STEPS * ACCUMULATED):
            yield ActivationBatch(torch.randn(8, D_IN, generator=generator), step, (0,), step * 8)


def member(d_in: int, d_sae: int = 12, nan: bool = False) -> vl.SAE:
    made = vl.SAE(d_in, d_sae, vl.TopK(2), bias_init="zero", optimizer=partial(torch.optim.Adam, lr=0.01))
    if nan:
        made.autoencoder.W_dec.data[0, 0] = torch.nan
    return made


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[EventAccumulator, Path, vl.Ensemble]:
    """Three members, one of which cannot be drawn; two batches are one step."""
    members: dict[str, Any] = {"one": member, "two": partial(member, d_sae=20), "diverged": partial(member, nan=True)}
    module = vl.Ensemble(D_IN, members)
    logger = TensorBoardLogger(tmp_path_factory.mktemp("run"), name="logs", version="run", default_hp_metric=False)
    trainer = Trainer(
        max_steps=STEPS,
        accumulate_grad_batches=ACCUMULATED,
        accelerator="cpu",
        logger=logger,
        callbacks=[LatentMap(2, max_features=10)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Rows())
    return EventAccumulator(logger.log_dir, {"images": 0}).Reload(), Path(logger.log_dir), module


def embeddings(folder: Path) -> dict[str, tuple[np.ndarray, list[list[str]]]]:
    """By its name, the rows of every embedding that the projector is told of, and its metadata with their header."""
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    found = {}
    for embedding in config.embeddings:
        rows = np.loadtxt(folder / embedding.tensor_path, delimiter="\t", dtype=np.float32, ndmin=2)
        lines = (folder / embedding.metadata_path).read_text().splitlines()
        found[embedding.tensor_name] = (rows, [line.split("\t") for line in lines])
    return found


def test_images_of_every_member_at_every_interval(fitted: Any) -> None:
    events, *_ = fitted
    kinds = {"latent_map": (600, 700), "nearest_cosine": (400, 700)}
    assert set(events.Tags()["images"]) == {f"train/{name}/{kind}" for name in ("one", "two") for kind in kinds}
    for name in ("one", "two"):
        for kind, shape in kinds.items():
            images = events.Images(f"train/{name}/{kind}")
            assert [image.step for image in images] == [1, 3]
            pixels = [imread(BytesIO(image.encoded_image_string)) for image in images]
            assert pixels[0].shape[:2] == shape
            assert not np.array_equal(pixels[0], pixels[1])


def test_the_projector_has_the_decoder_rows_of_every_member(fitted: Any) -> None:
    _, folder, module = fitted
    found = embeddings(folder)
    assert list(found) == ["decoder/one:00004", "decoder/two:00004"]
    for (rows, metadata), name in zip(found.values(), ("one", "two"), strict=True):
        trained = module.members()[name]
        assert metadata[0] == ["feature", "tokens since fired"]
        features = [int(feature) for feature, _ in metadata[1:]]
        assert len(set(features)) == 10
        assert np.array_equal(rows, trained.autoencoder.W_dec.detach().numpy()[features])
        expected = trained.usage.tokens_since_fired[features].tolist()
        assert [int(tokens) for _, tokens in metadata[1:]] == expected


def test_a_run_of_the_command_line(watched: Path) -> None:
    events = EventAccumulator(str(watched), {"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {"train/latent_map", "train/nearest_cosine"}
    assert [image.step for image in events.Images("train/latent_map")] == [5, 11]
    trained = read_checkpoint(watched / "checkpoints" / "last.ckpt")["state_dict"]
    ((rows, metadata),) = embeddings(watched).values()
    features = [int(feature) for feature, _ in metadata[1:]]
    assert len(features) == 40
    assert np.array_equal(rows, trained["autoencoder.W_dec"].numpy()[features])


def test_of_a_sharded_run_all_rows_are_there(sharded: Path) -> None:
    folder = sharded / "lightning_logs" / "version_0"
    trained = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    ((rows, metadata),) = embeddings(folder).values()
    assert [int(feature) for feature, _ in metadata[1:]] == list(range(96))
    assert np.array_equal(rows, trained["autoencoder.W_dec"].numpy())
    assert [int(tokens) for _, tokens in metadata[1:]] == trained["usage.tokens_since_fired"].tolist()


def test_training_is_bit_equal_with_it_and_without(run: Path, watched: Path) -> None:
    one, other = (read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (run, watched))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    plain, looked_at = (EventAccumulator(str(folder), {"scalars": 0}).Reload() for folder in (run, watched))
    for tag in ("train/loss", "val/explained_variance"):
        assert [event.value for event in plain.Scalars(tag)] == [event.value for event in looked_at.Scalars(tag)]
    assert "images" not in plain.Tags() or not plain.Tags()["images"]


def test_the_map_has_every_latent_and_its_colour() -> None:
    places, silent = np.arange(10.0).reshape(5, 2), np.array([0, 9, 99, 1000, 5000])
    (axes, _) = _map(places, silent, 1000).axes
    alive, dead = axes.collections
    assert np.array_equal(alive.get_offsets(), places[:3])
    assert np.asarray(alive.get_array()).tolist() == pytest.approx([0, 1, 2])
    assert np.array_equal(dead.get_offsets(), places[3:])
    assert "red: dead, 2" in axes.get_title()


def test_the_histogram_counts_every_latent() -> None:
    (axes,) = _histogram(np.array([0.1, 0.11, 0.51, 1.0])).axes
    bars: list[Any] = list(axes.patches)
    counts = [bar.get_height() for bar in bars]
    assert [place for place, count in enumerate(counts) if count] == [5, 25, 49]
    assert sum(counts) == 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LatentMap(0), r"latent_map\.every_n_steps is 0"),
        (lambda: LatentMap(5, max_features=3), r"latent_map\.max_features is 3; it must be at least 4"),
        (lambda: LatentMap(5, perplexity=0.5), r"latent_map\.perplexity is 0\.5"),
    ],
)
def test_bad_settings_are_refused(build: Callable[[], LatentMap], message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        build()
