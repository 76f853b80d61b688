"""What evaluation is served, and which options are refused."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from recorder import CONTEXT, HOOK, DataModuleMaker, Recorder, TrainerMaker, plain_activations, tokens_of
from vsae_lightning.batches import HeldOutBatch
from vsae_lightning.data.datamodule import ActivationDataModule
from vsae_lightning.data.text import BundledText, Document, TextFiles, TextSource
from vsae_lightning.errors import InputError


class Unreadable(TextSource):
    """Text that nothing may ask for yet."""

    def documents(self) -> Iterator[Document]:
        raise AssertionError("the text was read")

    def fingerprint(self) -> dict[str, Any]:
        raise AssertionError("the text was looked at")


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
    data = ActivationDataModule(str(tmp_path), "blocks.2.mlp.hook_post", text=Unreadable(), context_length=64)
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
    assert isinstance(ActivationDataModule(str(tiny_model), HOOK, context_length=64).text, BundledText)


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
