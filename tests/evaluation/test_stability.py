"""Dictionaries compared with each other."""

from pathlib import Path

import pytest
import torch

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sparsifiers import ReLU
from vsae_lightning.autoencoders.storage import save
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation import stability as module
from vsae_lightning.evaluation.stability import Stability, alive_latents, load_other, stability
from vsae_lightning.interop import saelens
from vsae_lightning.origin import Origin

CPU = torch.device("cpu")


def test_a_permuted_copy_is_the_same() -> None:
    rows = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    found = stability(rows, 2 * rows[torch.randperm(12)])
    assert found == pytest.approx(Stability(1, 1, 1), abs=1e-6)


def test_a_flipped_copy_is_not() -> None:
    assert stability(torch.eye(4), -torch.eye(4)) == Stability(0, 0, 0)


def test_by_hand() -> None:
    # Both rows of one are nearest to the first of the other; one to one, 0.96 + 0 is less than 0.28 + 1.
    found = stability(torch.tensor([[0.96, 0.28], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found.mmcs == pytest.approx(((0.96 + 1) / 2 + (1 + 0.28) / 2) / 2)
    assert found.matched_cosine == pytest.approx((0.28 + 1) / 2)
    assert found.shared == 1 / 2


def test_large_dictionaries_are_not_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MATCHED_AT_MOST", 4)
    assert stability(torch.eye(4), torch.eye(4)) == Stability(1, 1, 1)
    assert stability(torch.eye(5), torch.eye(5)[:1])[1:] == (None, None)
    assert stability(torch.eye(5), torch.eye(5)[:1]).mmcs == pytest.approx((1 / 5 + 1) / 2)


@torch.no_grad()
def test_a_latent_that_fires_once_is_alive() -> None:
    autoencoder, wider = (
        SparseAutoencoder(3, 3, ReLU(), pre_bias=False),
        SparseAutoencoder(3, 4, ReLU(), pre_bias=False),
    )
    autoencoder.W_enc.copy_(torch.eye(3))
    wider.W_enc.copy_(torch.eye(3, 4).flip(1))
    batches = [torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[1.0, -2.0, 0.0], [-1.0, 0.0, 0.5]])]
    alive = alive_latents([autoencoder, wider], batches)
    assert [fired.tolist() for fired in alive] == [[True, False, True], [False, True, False, True]]


def test_an_export_of_another_library_and_the_last_run(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoencoder = SparseAutoencoder(3, 5, ReLU())
    saelens.write(tmp_path, autoencoder, Origin({}, {}, {}, {}))
    assert torch.allclose(load_other(str(tmp_path), CPU).W_dec, autoencoder.W_dec)
    monkeypatch.chdir(run.parents[1])
    assert torch.equal(load_other("last", CPU).W_dec, load_other(str(run), CPU).W_dec)


def test_another_run_by_its_path(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "with:colon"
    save(SparseAutoencoder(3, 5, ReLU()), folder)
    assert load_other(str(folder), CPU).d_sae == 5
    assert load_other(str(run), CPU).d_sae == 96
    with pytest.raises(InputError, match=r"member is 'a', but .* is no ensemble"):
        load_other(f"{run}:a", CPU)
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        load_other("nowhere", CPU)
