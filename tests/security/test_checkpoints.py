"""A stranger's checkpoint takes no more memory than its file has bytes, and is refused in one line."""

import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vsae_lightning as vl
from hostile_checkpoints import (
    B_ENC,
    D_IN,
    D_SAE,
    W_DEC,
    archives,
    changed,
    content,
    kinds,
    of_one_number,
    rewritten,
    saved,
    write_all,
)
from vsae_lightning.autoencoders.storage import describe_checkpoint, read_checkpoint
from vsae_lightning.autoencoders.torch_files import read_torch_file

BAD = archives() | kinds()
GB = 2**30
MEASURE = """
import resource, sys
from pathlib import Path
import vsae_lightning as vl
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
folder = Path(sys.argv[1])
vl.load(folder / "good.ckpt")
before = peak()
for path in sorted(folder.glob("*.ckpt")):
    if path.name != "good.ckpt":
        try:
            vl.load(path)
            print("loaded", path.name)
        except vl.InputError as error:
            assert str(path) in str(error), error
print(peak() - before)
"""


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_plain_checkpoint_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(BAD[name])
    for read in (vl.load, read_checkpoint, describe_checkpoint, vl.SAE.load_from_checkpoint):
        with pytest.raises(vl.InputError, match=r"bad\.ckpt: ") as error:
            read(path)
        assert len(str(error.value)) < 1000
    assert [file.name for file in tmp_path.iterdir()] == ["bad.ckpt"]


def test_memory_stays_near_that_of_a_good_file(tmp_path: Path) -> None:
    write_all(tmp_path)
    result = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    (more,) = result.stdout.split("\n")[:-1]
    assert int(more) < GB / 2


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_good_checkpoint_is_read_bit_by_bit(in_memory: bool, tmp_path: Path) -> None:
    good = content()
    path = tmp_path / "good.ckpt"
    path.write_bytes(saved(good))
    found = read_checkpoint(path, in_memory)
    plain = torch.load(path, weights_only=True)
    assert found.keys() == plain.keys() == good.keys()
    for name, value in good["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)
        assert found["state_dict"][name].stride() == plain["state_dict"][name].stride()
    assert found["autoencoder"] == good["autoencoder"]
    assert torch.isfinite(vl.load(path)(torch.ones(2, D_IN))).all()


@pytest.mark.parametrize("in_memory", [True, False])
def test_views_of_one_storage_stay_views_of_one(in_memory: bool, tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    parameter = torch.nn.Parameter(torch.ones(3), requires_grad=True)
    value = {"rows": whole[:2], "columns": whole.T, "tied": [whole, whole.detach(), whole], "none": torch.empty(0, 5)}
    torch.save({**value, "parameter": parameter, "number": torch.tensor(7)}, tmp_path / "views.pt")
    found = read_torch_file(tmp_path / "views.pt", in_memory)
    assert torch.equal(found["rows"], whole[:2])
    assert torch.equal(found["columns"], whole.T)
    assert found["none"].shape == (0, 5)
    assert torch.equal(found["parameter"], parameter)
    assert found["parameter"].requires_grad
    assert found["number"] == 7
    found["rows"].zero_()
    assert found["columns"][:, :2].abs().sum() == 0
    assert [tied[:2].abs().sum() for tied in found["tied"]] == [0, 0, 0]
    assert torch.equal(read_torch_file(tmp_path / "views.pt")["rows"], whole[:2])  # the file is as it was


def test_what_is_in_memory_needs_the_file_no_more(tmp_path: Path) -> None:
    path = tmp_path / "good.ckpt"
    path.write_bytes(saved(content()))
    found = read_checkpoint(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(found["state_dict"][W_DEC], content()["state_dict"][W_DEC])


def test_a_dictionary_larger_than_its_weights_is_not_built(tmp_path: Path) -> None:
    """A module is built from the hyper-parameters before its weights are looked at."""
    path = tmp_path / "bad.ckpt"
    for option, value in (("d_sae", 10**12), ("d_in", 10**12), ("d_sae", "96"), ("d_sae", [96])):
        path.write_bytes(changed(value, "hyper_parameters", option))
        for read in (vl.load, describe_checkpoint, vl.SAE.load_from_checkpoint):
            with pytest.raises(
                vl.InputError, match=rf"hyper-parameters: d_sae, d_in .* but W_dec is \[{D_SAE}, {D_IN}"
            ):
                read(path)
    spec = {"class_path": "vsae_lightning.SAE", "init_args": {"d_sae": 10**12}}
    members = {"_class_path": "vsae_lightning.Ensemble", "d_in": D_IN, "members": {"a": spec}}
    path.write_bytes(changed(members, "hyper_parameters"))
    with pytest.raises(vl.InputError, match="W_dec is None"):
        vl.Ensemble.load_from_checkpoint(path)


def test_the_name_of_a_member_is_one_word() -> None:
    for name in ("../../x", "a/b", "..", "", "a\x00b", "a\n"):
        with pytest.raises(vl.InputError, match="members has"):
            vl.Ensemble(4, {name: lambda d_in: vl.SAE(d_in, 8, vl.ReLU())})


def test_a_member_cannot_be_asked_for_by_path(tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(changed({"../../x": {}}, "members"))
    with pytest.raises(vl.InputError, match=r"its member '\.\./\.\./x' is not described"):
        vl.load(path, member="../../x")


def test_a_checkpoint_that_torch_deflated_itself_would_be_seen(tmp_path: Path) -> None:
    """The attack as it was: 100 times its size in memory."""
    bomb = BAD["deflated"]
    assert len(bomb) < 10**6 / 2
    (tmp_path / "bomb.ckpt").write_bytes(bomb)
    with zipfile.ZipFile(tmp_path / "bomb.ckpt") as archive:
        assert sum(entry.file_size for entry in archive.infolist()) > 8 * 10**7
    assert len(of_one_number(8192, 100_000)) < 10_000
    with pytest.raises(vl.InputError, match="an entry is compressed"):
        vl.load(tmp_path / "bomb.ckpt")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(torch.zeros(2, 0)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
PLACES: list[tuple[str, ...]] = [
    ("state_dict",),
    ("state_dict", B_ENC),
    ("state_dict", W_DEC),
    ("state_dict", "input_mean"),
    ("state_dict", "input_scale"),
    ("hyper_parameters",),
    ("hyper_parameters", "_class_path"),
    ("hyper_parameters", "d_in"),
    ("hyper_parameters", "members"),
    ("autoencoder",),
    ("autoencoder", "class_name"),
    ("autoencoder", "init_args"),
    ("autoencoder", "init_args", "sparsifier"),
    ("autoencoder", "init_args", "d_in"),
    ("autoencoder", "init_args", "encoder"),
    ("autoencoder", "init_args", "decoder_norm"),
    ("autoencoder", "init_args", "seed"),
    ("members",),
]


def loads_or_is_refused(path: Path) -> None:
    with suppress(vl.InputError):
        assert isinstance(vl.load(path), vl.SparseAutoencoder)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=ODD)
def test_any_value_at_any_place_loads_or_is_refused(place: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    (tmp_path / "odd.ckpt").write_bytes(changed(value, *place))
    loads_or_is_refused(tmp_path / "odd.ckpt")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_pickle_loads_or_is_refused(edits: list[tuple[int, int]], tmp_path: Path) -> None:
    """With checksums that are right, so that it comes to the unpickler."""

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        altered = bytearray(data)
        for place, value in edits:
            altered[place % len(altered)] = value
        return bytes(altered)

    (tmp_path / "odd.ckpt").write_bytes(rewritten(saved(content()), change))
    loads_or_is_refused(tmp_path / "odd.ckpt")
