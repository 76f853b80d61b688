"""When features fired, from checkpoints: by hand, and against a recount of the training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vsae_lightning.analysis.training_usage import TrainingUsage
from vsae_lightning.autoencoders.storage import save
from vsae_lightning.cli import main
from vsae_lightning.errors import InputError
from vsae_lightning.loading import load

NAN = float("nan")


def altered(run: Path, folder: Path, **usage: Any) -> Path:
    """A copy of the checkpoint of a run with another usage; None: without."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for name, value in usage.items():
        checkpoint["state_dict"].pop(f"usage.{name}")
        if value is not None:
            checkpoint["state_dict"][f"usage.{name}"] = torch.tensor(value)
    torch.save(checkpoint, folder / "altered.ckpt")
    return folder / "altered.ckpt"


def test_by_hand(run: Path, tmp_path: Path) -> None:
    """768 tokens: one fires from the first batch to the end, one for a while, one never, one is restarted at 640."""
    path = altered(run, tmp_path, tokens_since_fired=[0, 256, 768, 128], first_fired=[64, 448, -1, -1])
    usage = TrainingUsage.of(path)
    assert usage is not None
    assert usage.tokens == 12 * 64
    np.testing.assert_equal(usage.first, [64, 448, NAN, NAN])
    np.testing.assert_equal(usage.last, [768, 512, NAN, NAN])
    first, last = usage.columns()
    assert (first.key, last.key) == ("first_seen", "last_seen")
    np.testing.assert_equal(last.values, usage.last)


def test_of_an_older_checkpoint_the_first_is_not_known(run: Path, tmp_path: Path) -> None:
    usage = TrainingUsage.of(altered(run, tmp_path, tokens_since_fired=[0, 256, 768, 128], first_fired=None))
    assert usage is not None
    np.testing.assert_equal(usage.first, [NAN] * 4)
    np.testing.assert_equal(usage.last, [768, 512, NAN, 640])


def test_of_a_run_that_went_on_from_an_older_checkpoint(run: Path, tmp_path: Path) -> None:
    usage = TrainingUsage.of(altered(run, tmp_path, tokens_since_fired=[0, 256, 768], first_fired=[-2, -2, -2]))
    assert usage is not None
    np.testing.assert_equal(usage.first, [NAN] * 3)
    np.testing.assert_equal(usage.last, [768, 512, NAN])


def test_an_export_does_not_say(run: Path, tmp_path: Path) -> None:
    save(load(run), tmp_path)
    assert TrainingUsage.of(tmp_path) is None


def test_a_checkpoint_without_usage_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its tokens_seen and its usage are not those of a run"):
        TrainingUsage.of(altered(run, tmp_path, tokens_since_fired=None, first_fired=None))


def test_the_training_is_recounted(run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that end after 1, 2, ... of the steps tell which latents had fired by then."""
    monkeypatch.chdir(tmp_path)
    whole = TrainingUsage.of(run)
    assert whole is not None
    for steps in (1, 4):
        options = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
        main(["fit", "--config", str(config), "--model.scheduler.total_steps", "12", *options])
        part = TrainingUsage.of(tmp_path / "lightning_logs" / f"version_{0 if steps == 1 else 1}")
        assert part is not None
        assert part.tokens == steps * 64
        np.testing.assert_equal(part.first, np.where(whole.first <= steps * 64, whole.first, NAN))
        assert not (part.last > part.tokens).any()


def test_a_run_goes_on_from_an_older_checkpoint_and_is_tested(
    run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = altered(run, tmp_path, first_fired=None)
    longer = ["--trainer.max_steps", "14", "--model.scheduler.total_steps", "12"]
    with pytest.warns(UserWarning, match="does not say when latents first fired; for these it stays not known"):
        main(["fit", "--config", str(config), "--ckpt_path", str(path), *longer])
    (resumed,) = (tmp_path / "lightning_logs").iterdir()
    usage = TrainingUsage.of(resumed)
    assert usage is not None
    assert np.isnan(usage.first).all()
    assert (usage.last == 14 * 64).sum() > 6
    main(["test", "--config", str(config), "--ckpt_path", str(path)])
    assert yaml.safe_load((tmp_path / "test.json").read_text())["test/l0"] > 0
