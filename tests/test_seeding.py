import hashlib

import pytest
import torch
from lightning.fabric.utilities.seed import seed_everything

from vsae_lightning.seeding import derive_seed, generator, global_seed


def test_a_seed_is_the_upper_63_bits_of_a_hash() -> None:
    digest = hashlib.blake2b(b"noise:1:2:3", digest_size=8).digest()
    little_endian = int(digest[::-1].hex(), 16)
    assert derive_seed("noise", 1, 2, 3) == little_endian // 2
    # Written down, for a run that is resumed under another version must draw the same numbers.
    assert derive_seed("noise", 1, 2, 3) == 1373237577310373733


def test_seeds_fit_a_signed_integer_and_fill_it() -> None:
    seeds = [derive_seed("noise", number) for number in range(2000)]
    assert min(seeds) >= 0
    assert 0.9 * 2**63 < max(seeds) < 2**63
    assert len(set(seeds)) == 2000


@pytest.mark.parametrize(
    ("purpose", "numbers"),
    [("epoch", [1, 2, 3]), ("rows", [1, 3, 2]), ("rows", [12, 3]), ("rows", [1, 2, 3, 0]), ("rows", []), ("row", [])],
)
def test_every_purpose_and_coordinate_has_its_own_seed(purpose: str, numbers: list[int]) -> None:
    assert derive_seed(purpose, *numbers) not in (derive_seed("rows", 1, 2, 3), derive_seed("rows", 1, 23))


def test_a_generator_is_at_the_start_of_its_stream_each_time() -> None:
    expected = torch.randn(5, generator=torch.Generator().manual_seed(derive_seed("noise", 7, 0)))
    for device in ("cpu", torch.device("cpu")):
        assert torch.equal(torch.randn(5, generator=generator(device, "noise", 7, 0)), expected)
    assert not torch.equal(torch.randn(5, generator=generator("cpu", "noise", 7, 1)), expected)


def test_a_generator_neither_reads_nor_moves_the_global_one() -> None:
    before = torch.get_rng_state()
    torch.rand(5, generator=generator("cpu", "noise", 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_seed_is_0_until_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert global_seed() == 0


def test_the_global_seed_is_that_of_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # so that pytest puts them back
        monkeypatch.setenv(name, "0")
    with torch.random.fork_rng():
        seed_everything(1234, verbose=False)
    assert global_seed() == 1234
