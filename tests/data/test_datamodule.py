"""What training is served, where it goes on, and how it is scaled."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from recorder import DataModuleMaker, FailsAtStep3, Recorder, TrainerMaker, plain_activations, tokens_of
from vsae_lightning import SAE, TopK
from vsae_lightning.errors import InputError

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
    assert len(recorder.held_out["validation"]) == 6 * 2
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


# ------------------------------------------------------------------ warnings


@pytest.fixture
def model_with_bos(tiny_model: Path, tmp_path: Path) -> Path:
    """A model whose tokenizer begins every text with its BOS token."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "with_bos"))
    content = json.loads((folder / "tokenizer.json").read_text())
    bos = "<|endoftext|>"
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_a_model_that_knows_a_bos_is_not_trained_without_one_in_silence(
    data_module: DataModuleMaker, model_with_bos: Path
) -> None:
    with pytest.warns(UserWarning, match=r"Give --data\.prepend_bos true"):
        data_module(model_with_bos).tokenize()


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_a_bos_that_is_there_or_unknown_is_not_spoken_of(
    data_module: DataModuleMaker,
    model_with_bos: Path,
    tiny_model: Path,
    prepend_bos: bool,
    recwarn: pytest.WarningsRecorder,
) -> None:
    data_module(model_with_bos if prepend_bos else tiny_model, prepend_bos=prepend_bos).tokenize()
    assert not [warning for warning in recwarn if "prepend_bos" in str(warning.message)]


def test_less_held_out_text_than_asked_for_is_told_with_both_numbers(
    data_module: DataModuleMaker, trainer: TrainerMaker
) -> None:
    with pytest.warns(UserWarning, match=r"^validation_tokens is 1,000,000, but only [\d,]+ tokens are held out"):
        trainer(max_steps=1).fit(Recorder(), datamodule=data_module(validation_tokens=10**6))


def test_enough_held_out_text_is_not_spoken_of(
    data_module: DataModuleMaker, trainer: TrainerMaker, recwarn: pytest.WarningsRecorder
) -> None:
    trainer(max_steps=1).fit(Recorder(), datamodule=data_module())
    assert not [warning for warning in recwarn if "validation_tokens" in str(warning.message)]
