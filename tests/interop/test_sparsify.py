"""What sparsify saved is read here: equal to 1e-5."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("sparsify")

from sparsify import SparseCoder
from sparsify.config import SparseCoderConfig

import vsae_lightning as vl
from export_kinds import D_IN, D_SAE, K, error, rows
from vsae_lightning.loading import origin_of


def trained(config: SparseCoderConfig) -> SparseCoder:
    """After a few steps of its own loss, on data that are not centred."""
    torch.manual_seed(0)
    coder = SparseCoder(D_IN, config)
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-2)
    for _ in range(20):
        loss = coder(3 + 8 * torch.randn(32, D_IN)).fvu
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return coder


@pytest.mark.parametrize("num_latents", [0, D_SAE])
def test_a_hookpoint_is_read(num_latents: int, tmp_path: Path) -> None:
    coder = trained(SparseCoderConfig(num_latents=num_latents, expansion_factor=4, k=K))
    coder.save_to_disk(tmp_path / "layers.3")
    run = {"model": "EleutherAI/pythia-70m", "ctx_len": 512}
    (tmp_path / "config.json").write_text(json.dumps(run))
    loaded, x = vl.load(tmp_path / "layers.3"), rows()
    own = SparseCoder.load_from_disk(tmp_path / "layers.3")
    with torch.no_grad():
        assert error(loaded(x), own(x).sae_out) < 1e-5
        values, indices, _ = own.encode(x)
        expected = torch.zeros(len(x), D_SAE).scatter(-1, indices, values)
    assert error(loaded.encode(x), expected) < 1e-5
    assert origin_of(tmp_path / "layers.3").provenance == {
        "model_name": "EleutherAI/pythia-70m",
        "hook_name": "blocks.3.hook_resid_post",
        "context_length": 512,
        "drop_positions": 0,
    }


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"transcode": True}, "transcode is set"),
        ({"skip_connection": True}, "skip_connection is set"),
        ({"activation": "groupmax"}, "activation is 'groupmax'"),
    ],
)
def test_others_are_refused_by_name(options: dict[str, object], named: str, tmp_path: Path) -> None:
    SparseCoder(D_IN, SparseCoderConfig(num_latents=D_SAE, k=8, **options)).save_to_disk(tmp_path)
    with pytest.raises(vl.InputError, match=named):
        vl.load(tmp_path)
