import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from vsae_lightning import SAE, TopK
from vsae_lightning.batches import ActivationBatch, HeldOutBatch
from vsae_lightning.data.datamodule import ActivationDataModule
from vsae_lightning.data.text import BundledText, Document, TextFiles, TextSource
from vsae_lightning.errors import InputError

CONTEXT = 16
HOOK = "blocks.1.hook_resid_post"

DataModuleMaker = Callable[..., ActivationDataModule]
TrainerMaker = Callable[..., Trainer]


class Recorder(LightningModule):
    """Learns nothing; keeps all that the data module hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[ActivationBatch] = []
        self.positions: list[int] = []
        self.held_out: dict[str, list[HeldOutBatch]] = {"validation": [], "test": [], "predict": []}
        self.mean: Tensor | None = None
        self.scale: Tensor | None = None

    def on_fit_start(self) -> None:
        self.mean, self.scale, _ = self._data().input_statistics()

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> Tensor:
        self.batches.append(batch)
        return self.weight.square()

    def on_train_batch_end(self, *args: Any) -> None:
        self.positions.append(self._data().state_dict()["steps"])

    def validation_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.held_out["validation"].append(batch)

    def test_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        self.held_out["test"].append(batch)

    def predict_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        self.held_out["predict"].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    @property
    def steps(self) -> list[int]:
        return [batch.step for batch in self.batches]

    def _data(self) -> ActivationDataModule:
        data: ActivationDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data


class FailsAtStep3(Recorder):
    def training_step(self, batch: ActivationBatch, batch_idx: int) -> Tensor:
        if batch.step == 3:
            raise RuntimeError("out of memory")
        return super().training_step(batch, batch_idx)


class Unreadable(TextSource):
    """Text that nothing may ask for yet."""

    def documents(self) -> Iterator[Document]:
        raise AssertionError("the text was read")

    def fingerprint(self) -> dict[str, Any]:
        raise AssertionError("the text was looked at")


@pytest.fixture(scope="module")
def data_module(
    tiny_model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ActivationDataModule]:
    """Makes data modules whose blocks of 16 sequences are 240 rows: ten steps of 24, without remainder."""
    cache = tmp_path_factory.mktemp("tokens")

    def make(model_name: Path | str = tiny_model, hook_name: str = HOOK, **options: Any) -> ActivationDataModule:
        defaults: dict[str, Any] = {
            "text": TextFiles(str(corpus), separator="\n\n", held_out_fraction=0.2),
            "context_length": CONTEXT,
            "batch_size": 24,
            "block_sequences": 16,
            "lanes": 4,
            "lm_batch_sequences": 3,
            "validation_tokens": 5 * CONTEXT + 3,
            "cache_dir": str(cache),
            "seed": 1,
        }
        return ActivationDataModule(str(model_name), hook_name, **(defaults | options))

    return make


@pytest.fixture
def trainer(tmp_path: Path) -> TrainerMaker:
    def make(**options: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "max_steps": 3,
            "limit_val_batches": 0,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        return Trainer(**(defaults | options))

    return make


@pytest.fixture(scope="module")
def ten_steps(data_module: DataModuleMaker, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """A run of one block that nothing interrupted."""
    recorder = Recorder()
    fit = Trainer(
        max_steps=10,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path_factory.mktemp("run"),
    )
    fit.fit(recorder, datamodule=data_module())
    return recorder


def tokens_of(data: ActivationDataModule) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    assert data.tokens is not None
    return data.tokens.train, data.tokens.held_out


def plain_activations(folder: Path, tokens: np.ndarray[Any, Any]) -> Tensor:
    """The output of the second block of the plain Hugging Face model."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        hidden_states = model(torch.from_numpy(tokens.astype(np.int64)), output_hidden_states=True).hidden_states
    states: Tensor = hidden_states[2]
    return states


# ------------------------------------------------------------------- training


def test_every_batch_has_batch_size_rows(ten_steps: Recorder) -> None:
    assert ten_steps.steps == list(range(10))
    for batch in ten_steps.batches:
        assert batch.activations.shape == (24, 32)
        assert batch.activations.dtype == torch.float32
        assert batch.lanes == (0, 1, 2, 3)


def test_a_block_of_batches_is_what_the_plain_model_makes_of_its_sequences(
    ten_steps: Recorder, tiny_model: Path
) -> None:
    data = ten_steps._data()
    assert data.stream is not None
    drawn = torch.cat([data.stream.lane_sequences(0, lane) for lane in range(4)]).numpy()
    assert len(set(drawn.tolist())) == 16
    expected = plain_activations(tiny_model, tokens_of(data)[0][drawn])[:, 1:].flatten(0, 1)
    rows = torch.cat([batch.activations for batch in ten_steps.batches])
    # Equal as multisets of rows: in whatever order, they have the same projections.
    directions = torch.randn(32, 20, generator=torch.Generator().manual_seed(0))
    projections, expected_projections = ((x @ directions).sort(dim=0).values for x in (rows, expected))
    torch.testing.assert_close(projections, expected_projections, rtol=1e-4, atol=1e-3)


def test_the_position_is_the_steps_consumed_not_those_fetched(ten_steps: Recorder) -> None:
    assert ten_steps.positions == list(range(1, 11))


def test_a_step_that_failed_is_not_consumed(data_module: DataModuleMaker, trainer: TrainerMaker) -> None:
    data = data_module()
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer(max_steps=5).fit(FailsAtStep3(), datamodule=data)
    assert data.state_dict()["steps"] == 3


def test_a_checkpoint_in_the_middle_of_a_run_holds_its_own_position(
    data_module: DataModuleMaker, trainer: TrainerMaker, tmp_path: Path
) -> None:
    checkpoints = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    fit = trainer(max_steps=5, enable_checkpointing=True, callbacks=[checkpoints])
    fit.fit(Recorder(), datamodule=data_module())
    fit.save_checkpoint(tmp_path / "step=5.ckpt")
    states = {
        step: torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)["ActivationDataModule"]
        for step in (2, 4, 5)
    }
    assert {step: state["steps"] for step, state in states.items()} == {2: 2, 4: 4, 5: 5}


@pytest.mark.parametrize("interrupted_at", [1, 3, 9])
def test_a_resumed_run_is_served_what_the_uninterrupted_one_was(
    data_module: DataModuleMaker, trainer: TrainerMaker, ten_steps: Recorder, tmp_path: Path, interrupted_at: int
) -> None:
    fit = trainer(max_steps=interrupted_at)
    fit.fit(Recorder(), datamodule=data_module())
    fit.save_checkpoint(tmp_path / "run.ckpt")
    resumed = Recorder()
    trainer(max_steps=10).fit(resumed, datamodule=data_module(), ckpt_path=tmp_path / "run.ckpt")
    assert resumed.steps == list(range(interrupted_at, 10))
    assert resumed.positions == list(range(interrupted_at + 1, 11))
    for batch in resumed.batches:
        assert torch.equal(batch.activations, ten_steps.batches[batch.step].activations)


@pytest.mark.parametrize("options", [{"limit_train_batches": 2}, {"limit_train_batches": 4, "max_epochs": 2}])
def test_an_epoch_goes_on_where_the_last_one_ended(
    data_module: DataModuleMaker, trainer: TrainerMaker, options: dict[str, Any]
) -> None:
    recorder = Recorder()
    trainer(max_steps=6, **options).fit(recorder, datamodule=data_module())
    assert recorder.positions == [1, 2, 3, 4, 5, 6]
    assert recorder.steps == [0, 1, 2, 3, 4, 5]


def test_a_second_fit_goes_on_where_the_first_one_ended(data_module: DataModuleMaker, trainer: TrainerMaker) -> None:
    recorder, data, fit = Recorder(), data_module(), trainer(max_steps=3)
    fit.fit(recorder, datamodule=data)
    fit.fit_loop.epoch_loop.max_steps = 5
    fit.fit(recorder, datamodule=data)
    assert recorder.positions == [1, 2, 3, 4, 5]
    assert recorder.steps == [0, 1, 2, 3, 4]


def test_accumulated_batches_are_all_counted(
    data_module: DataModuleMaker, trainer: TrainerMaker, tmp_path: Path
) -> None:
    first, resumed = Recorder(), Recorder()
    fit = trainer(max_steps=2, accumulate_grad_batches=2)
    fit.fit(first, datamodule=data_module())
    fit.save_checkpoint(tmp_path / "run.ckpt")
    trainer(max_steps=3, accumulate_grad_batches=2).fit(
        resumed, datamodule=data_module(), ckpt_path=tmp_path / "run.ckpt"
    )
    assert first.steps + resumed.steps == [0, 1, 2, 3, 4, 5]
    assert resumed.positions == [5, 6]


def test_validation_consumes_no_training_rows(
    data_module: DataModuleMaker, trainer: TrainerMaker, ten_steps: Recorder
) -> None:
    recorder = Recorder()
    trainer(max_steps=10, limit_val_batches=1.0, val_check_interval=3, check_val_every_n_epoch=None).fit(
        recorder, datamodule=data_module()
    )
    assert recorder.positions == ten_steps.positions
    assert len(recorder.held_out["validation"]) == 3 * 2
    for batch, expected in zip(recorder.batches, ten_steps.batches, strict=True):
        assert torch.equal(batch.activations, expected.activations)


def test_without_max_steps_training_is_an_error(data_module: DataModuleMaker, trainer: TrainerMaker) -> None:
    with pytest.raises(InputError, match=r"trainer\.max_steps is not set"):
        trainer(max_steps=-1, max_epochs=1, limit_train_batches=2).fit(Recorder(), datamodule=data_module())


def test_a_corpus_smaller_than_a_block_is_an_error(data_module: DataModuleMaker, trainer: TrainerMaker) -> None:
    with pytest.raises(InputError, match=r"block_sequences is 100000, but there are only \d+ training sequences"):
        trainer().fit(Recorder(), datamodule=data_module(block_sequences=100_000))


def test_the_language_model_is_in_no_checkpoint(
    data_module: DataModuleMaker, trainer: TrainerMaker, tiny_model: Path, tmp_path: Path
) -> None:
    data = data_module()
    module = SAE(data.d_in, 64, TopK(k=4), aux_weight=0.0)
    fit = trainer()
    fit.fit(module, datamodule=data)
    fit.save_checkpoint(tmp_path / "run.ckpt")
    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert checkpoint["ActivationDataModule"]["steps"] == 3
    assert set(checkpoint["state_dict"]) == set(module.state_dict())
    # W_enc and W_dec are the largest of the module, with their moments; the smallest of the model is as large.
    model_sizes = {tensor.numel() for tensor in load_file(tiny_model / "model.safetensors").values()} - {32}
    stored = list(tensors(checkpoint))
    assert 32 * 64 in {tensor.numel() for tensor in stored}
    assert not {tensor.numel() for tensor in stored} & model_sizes
    assert sum(parameter.numel() for parameter in module.parameters()) == 2 * 32 * 64 + 64 + 32


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


# -------------------------------------------------------------------- scaling


@pytest.mark.parametrize(("scale_to", "target"), [("d_in", 32.0), ("one", 1.0)])
@pytest.mark.parametrize("center", [False, True])
def test_scaled_rows_of_the_first_block_have_the_squared_norm_asked_for(
    data_module: DataModuleMaker, trainer: TrainerMaker, scale_to: str, target: float, center: bool
) -> None:
    recorder = Recorder()
    trainer(max_steps=10).fit(recorder, datamodule=data_module(scale_to=scale_to, center=center))
    assert recorder.mean is not None
    assert recorder.scale is not None
    rows = torch.cat([batch.activations for batch in recorder.batches])
    scaled = (recorder.scale * (rows - recorder.mean)).double()
    assert float(scaled.square().sum(-1).mean()) == pytest.approx(target, rel=1e-5)
    if center:
        assert scaled.mean(0).abs().max() < 1e-5
    else:
        assert recorder.mean.tolist() == [0.0] * 32


def test_statistics_do_not_depend_on_where_a_run_is_resumed(
    data_module: DataModuleMaker, trainer: TrainerMaker, ten_steps: Recorder, tmp_path: Path
) -> None:
    sizes = {"batch_size": 80}  # three steps per block
    fit, resumed = trainer(max_steps=4), Recorder()
    fit.fit(Recorder(), datamodule=data_module(**sizes))
    fit.save_checkpoint(tmp_path / "run.ckpt")
    trainer(max_steps=5).fit(resumed, datamodule=data_module(**sizes), ckpt_path=tmp_path / "run.ckpt")
    assert resumed.steps == [4]
    assert resumed.scale is not None
    assert ten_steps.scale is not None
    assert torch.equal(resumed.scale, ten_steps.scale)


def test_outliers_that_are_left_out_of_training_do_not_set_the_scale(
    data_module: DataModuleMaker, trainer: TrainerMaker, tiny_model: Path, tmp_path: Path
) -> None:
    # Before the first block the activations are the embeddings: that of one frequent token is made an outlier.
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    embeddings = weights["gpt_neox.embed_in.weight"]
    outlier = AutoTokenizer.from_pretrained(folder)(" dog")["input_ids"][-1]
    embeddings[outlier] *= 1000
    save_file(weights, folder / "model.safetensors", {"format": "pt"})

    data = data_module(folder, "blocks.0.hook_resid_pre", max_norm_ratio=10.0)
    recorder = Recorder()
    trainer(max_steps=9).fit(recorder, datamodule=data)  # the tenth step is fetched, the second block is not
    assert data.stream is not None
    drawn = torch.cat([data.stream.lane_sequences(0, lane) for lane in range(4)]).numpy()
    tokens = torch.from_numpy(tokens_of(data)[0][drawn][:, 1:].astype(np.int64)).flatten()
    kept = embeddings[tokens[tokens != outlier]]
    assert data.stream.dropped_rows == int((tokens == outlier).sum()) > 3
    rows = torch.cat([batch.activations for batch in recorder.batches])
    assert rows.norm(dim=-1).max() <= kept.norm(dim=-1).max()
    # A tenth either way: whether the rows that are repeated count twice is left open.
    assert recorder.scale is not None
    assert float(recorder.scale) == pytest.approx(float((32 / kept.square().sum(-1).mean()).sqrt()), rel=0.1)


# ------------------------------------------------------------------ evaluation


def held_out_of(recorder: Recorder, stage: str) -> HeldOutBatch:
    return HeldOutBatch(*(torch.cat(parts) for parts in zip(*recorder.held_out[stage], strict=True)))


def test_validation_reads_the_first_held_out_tokens_and_the_test_all(
    data_module: DataModuleMaker, trainer: TrainerMaker, tiny_model: Path
) -> None:
    recorder, data = Recorder(), data_module()
    evaluation = trainer(limit_val_batches=1.0)
    evaluation.validate(recorder, datamodule=data, verbose=False)
    evaluation.test(recorder, datamodule=data, verbose=False)
    held_out = tokens_of(data)[1]
    assert len(held_out) > 10
    for stage, num_sequences in (("validation", 5), ("test", len(held_out))):
        batch = held_out_of(recorder, stage)
        assert batch.token_ids.tolist() == held_out[:num_sequences, 1:].ravel().tolist()
        assert batch.positions.tolist() == list(range(1, CONTEXT)) * num_sequences
        assert batch.sequences.tolist() == np.repeat(np.arange(num_sequences), CONTEXT - 1).tolist()
        expected = plain_activations(tiny_model, held_out[:num_sequences])[:, 1:].flatten(0, 1)
        torch.testing.assert_close(batch.activations, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("predict_split", ["held_out", "train"])
def test_prediction_reads_the_split_asked_for(
    data_module: DataModuleMaker, trainer: TrainerMaker, predict_split: str
) -> None:
    recorder, data = Recorder(), data_module(predict_split=predict_split)
    trainer().predict(recorder, datamodule=data)
    expected = tokens_of(data)[0 if predict_split == "train" else 1]
    assert held_out_of(recorder, "predict").token_ids.tolist() == expected[:, 1:].ravel().tolist()


def test_held_out_documents_are_in_no_training_batch(ten_steps: Recorder, corpus: Path, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    train, held_out = (tokenizer.decode(tokens.ravel().tolist()) for tokens in tokens_of(ten_steps._data()))
    source = TextFiles(str(corpus), separator="\n\n", held_out_fraction=0.2)
    sides = Counter()  # type: Counter[str]
    for document in source.documents():
        sides["held out in train"] += document.held_out and document.text in train
        sides["train in held out"] += not document.held_out and document.text in held_out
        sides["in their own"] += document.text in (held_out if document.held_out else train)
    assert sides["held out in train"] == sides["train in held out"] == 0
    assert sides["in their own"] >= 198  # the last of each side may be cut


# --------------------------------------------------------------------- options


def test_the_width_and_every_error_come_before_weights_and_text(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    data = ActivationDataModule(str(tmp_path), "blocks.2.mlp.hook_post", text=Unreadable())
    assert data.d_in == 96
    assert data.batch_size == 4096
    with pytest.raises(InputError, match="no hook"):
        ActivationDataModule(str(tmp_path), "blocks.9.hook_resid_post", text=Unreadable())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"context_length": 1}, "context_length is 1; it must be larger than drop_positions, 1"),
        ({"context_length": 4, "drop_positions": 4}, "context_length is 4; it must be larger than drop_positions, 4"),
        ({"context_length": 0, "drop_positions": 0}, "context_length is 0"),
        ({"drop_positions": -1}, "drop_positions is -1"),
        ({"validation_tokens": 15}, "validation_tokens is 15, less than one context of 16"),
        ({"batch_size": 25}, "batch_size is 25; it must be a multiple of lanes, 4"),
        ({"lanes": 3}, "must be a multiple of lanes, 3|block_sequences is 16"),
        ({"max_norm_ratio": 0.5}, "max_norm_ratio is 0.5; it must be larger than 1"),
    ],
)
def test_sizes_that_do_not_fit_are_errors(data_module: DataModuleMaker, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        data_module(text=Unreadable(), **change)


def test_the_text_is_the_bundled_one_by_default(tiny_model: Path) -> None:
    assert isinstance(ActivationDataModule(str(tiny_model), HOOK).text, BundledText)


def test_the_seed_is_its_own_or_that_of_seed_everything(
    data_module: DataModuleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "77")
    assert data_module(seed=None).layout.seed == 77
    assert data_module(seed=0).layout.seed == 0


def test_bos_starts_every_sequence_where_asked(data_module: DataModuleMaker, trainer: TrainerMaker) -> None:
    data = data_module(prepend_bos=True, drop_positions=0)
    recorder = Recorder()
    trainer(limit_val_batches=1.0).validate(recorder, datamodule=data, verbose=False)
    batch = held_out_of(recorder, "validation")
    assert set(batch.token_ids[batch.positions == 0].tolist()) == {0}
    assert (tokens_of(data)[0][:, 0] == 0).all()


def test_activations_are_kept_in_the_dtype_of_the_model(data_module: DataModuleMaker, trainer: TrainerMaker) -> None:
    recorder = Recorder()
    trainer(max_steps=1).fit(recorder, datamodule=data_module(dtype="bfloat16"))
    assert recorder.batches[0].activations.dtype == torch.bfloat16
    assert recorder.scale is not None
    assert recorder.scale.dtype == torch.float32
