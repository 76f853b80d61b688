"""Files of strangers by the thousand: good ones are changed at random and read; each is refused in words or taken."""

import gzip
import json
import random
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from vsae_lightning.errors import InputError
from vsae_lightning.files import sha256
from vsae_lightning.latent_shards import write_index

SHARD = "latents-00-000000.safetensors"

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"class_path",
    b"init_args",
    b"os.system",
    b"null",
    b"-1",
    b"1e400",
    b"NaN",
    b"[[[[",
    b"{}",
    b"\x00",
    b"\xff\xfe",
    b"../",
    b"\xe2\x80\xae",
)


class Target(NamedTuple):
    """A reader, and the good file that is changed for it.

    Attributes:
        path: The file; the reader may look at others beside it.
        read: Reads what is there, to its end.
    """

    path: Path
    read: Callable[[], Any]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A few random changes: bytes flipped, cut, doubled, or replaced by numbers and words that readers trip over."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        place = chance.randrange(len(changed) + 1)
        length = chance.choice((1, 2, 4, 8, 64, 1024))
        kind = chance.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place : place + length] = b""
        elif kind == 2:
            changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 50))
        elif kind == 3:
            size = chance.choice((1, 2, 4, 8))
            number = chance.choice(NUMBERS) % 256**size
            changed[place : place + size] = number.to_bytes(size, chance.choice(("little", "big")))
        elif kind == 4:
            word = chance.choice(WORDS)
            changed[place : place + chance.choice((0, len(word)))] = word
        else:
            del changed[place:]
    return bytes(changed)


def fuzz(target: Target, seed: int, times: int | None = None, seconds: float | None = None) -> Counter[str]:
    """Read changed files so often, or so long; the good file is back at the end.

    Returns:
        How many files were taken and how many refused.

    Raises:
        AssertionError: Something else than an `InputError` came out; the file is kept beside, as `NAME.failed`.
    """
    good, chance, outcomes, began = target.path.read_bytes(), random.Random(seed), Counter[str](), time.monotonic()
    try:
        while (times is None or outcomes.total() < times) and (seconds is None or time.monotonic() - began < seconds):
            content = mutated(good, chance)
            target.path.write_bytes(content)
            try:
                target.read()
                outcomes["taken"] += 1
            except InputError:
                outcomes["refused"] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                target.path.with_name(f"{target.path.name}.failed").write_bytes(content)
                raise AssertionError(f"{target.path.name}, file {outcomes.total()}: {traceback.format_exc()}") from None
    finally:
        target.path.write_bytes(good)
    return outcomes


def make_targets(folder: Path, run: Path) -> dict[str, Target]:
    """Small good files of every kind that a stranger can send, each with what reads it.

    Args:
        folder: Where the files are made; an empty folder.
        run: A finished run, of which a copy of the settings and of the checkpoint is changed.
    """
    import pyarrow
    import pyarrow.parquet
    import torch
    import zstandard

    import vsae_lightning as vl
    from vsae_lightning.comparison.curves import read_curves
    from vsae_lightning.data.readers import read_documents
    from vsae_lightning.data.store_folder import read_layout
    from vsae_lightning.interop import saelens
    from vsae_lightning.origin import Origin, origin_of_run
    from vsae_lightning.run_settings import settings_of_run
    from vsae_lightning.runs import NamedRun

    shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("latents", "report", "evaluation"))
    autoencoder = vl.SparseAutoencoder(6, 8, vl.Matryoshka(vl.TopK(k=2), [4])).eval()
    vl.save(autoencoder, folder / "ours")
    (folder / "saelens").mkdir()
    saelens.write(folder / "saelens", vl.SparseAutoencoder(6, 8, vl.TopK(k=2)).eval(), Origin({}, {}, {}, {}))
    texts = [f"document {number} of a few words" for number in range(20)]
    lines = "".join(f'{{"text": "{text}"}}\n' for text in texts).encode()
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / "a.parquet")
    (folder / "store").mkdir()
    for split in ("train", "held_out"):
        torch.arange(32, dtype=torch.int32).to(torch.uint16).numpy().tofile(folder / "store" / f"{split}.bin")
    digests = {split: sha256(folder / "store" / f"{split}.bin") for split in ("train", "held_out")}
    layout = {"rows": {"train": 4, "held_out": 4}, "context_length": 8, "dtype": "uint16", "sha256": digests}
    (folder / "store" / "store.json").write_text(json.dumps(layout))
    shards = folder / "latents"
    save_file({"values": torch.zeros(4, 2), "indices": torch.zeros(4, 2, dtype=torch.int64)}, make(shards, SHARD))
    write_index(shards)
    events = next(iter(sorted((folder / "run").glob("events*"))), None)
    named = NamedRun("run", folder / "run", folder / "run" / "checkpoints" / "last.ckpt")

    def documents(name: str) -> Callable[[], Any]:
        return lambda: list(read_documents(folder / name, "text"))

    targets = {
        "config.yaml": Target(named.config, lambda: settings_of_run(named)),
        "fit.json": Target(folder / "run" / "fit.json", lambda: origin_of_run(folder / "run")),
        "checkpoint": Target(named.checkpoint, lambda: vl.load(named.checkpoint)),
        "autoencoder.json": Target(folder / "ours" / "autoencoder.json", lambda: vl.load(folder / "ours")),
        "autoencoder.safetensors": Target(
            folder / "ours" / "autoencoder.safetensors", lambda: vl.load(folder / "ours")
        ),
        "cfg.json of SAELens": Target(folder / "saelens" / "cfg.json", lambda: vl.load(folder / "saelens")),
        "weights of SAELens": Target(folder / "saelens" / saelens.WEIGHTS, lambda: vl.load(folder / "saelens")),
        "store.json": Target(folder / "store" / "store.json", lambda: read_layout(folder / "store", 8, 4096)),
        "tokens": Target(folder / "store" / "train.bin", lambda: read_layout(folder / "store", 8, 4096)),
        "index of latents": Target(shards / "index.json", lambda: list(vl.read_latents(shards))),
        "latents": Target(shards / SHARD, lambda: list(vl.read_latents(shards))),
        **{
            name: Target(folder / name, documents(name))
            for name in ("a.jsonl", "a.jsonl.zst", "a.jsonl.gz", "a.parquet")
        },
    }
    if events is not None:
        config = {"data": {"init_args": {"batch_size": 64}}}
        targets["events"] = Target(events, lambda: read_curves(folder / "run", config, ("train",), ("loss",)))
    return targets


def make(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / name
