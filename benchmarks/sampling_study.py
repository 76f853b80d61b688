"""What sampling and the gate KL do to an SAE: robustness, dispersion and stability of the members of a run.

    vsae fit --config configs/recommended/smollm2-135m/comparison.yaml
    python benchmarks/sampling_study.py lightning_logs/version_0

For every member of an ensemble, on the held-out tokens that validation reads: explained variance and alive
fraction, clean and with noise on the input (of 30 % of each row's norm, in a random direction), the Jaccard
overlap of the active sets without and with that noise, and the mean over alive latents of the largest
absolute cosine with another alive decoder row. Members named NAME_SEED are grouped by NAME: mean and standard
deviation over seeds, and the MMCS between seeds (mean over latents of one of the largest cosine with the
other's, both directions, alive latents). Writes `sampling_study.json` into the run folder, and prints a table.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.autoencoders.storage import find_checkpoint, read_checkpoint
from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.data.stream import token_tensor
from vsae_lightning.data.text import BundledText
from vsae_lightning.data.tokens import TokenStore
from vsae_lightning.files import write_json

NOISE = 0.3
COLUMNS = {
    "explained_variance": "explained variance",
    "alive": "alive",
    "explained_variance_noisy": "with 30 % noise",
    "jaccard": "Jaccard",
    "max_cosine": "mean max |cos|",
    "mmcs": "MMCS between seeds",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of an ensemble's run")
    run: Path = parser.parse_args().run
    members = list(read_checkpoint(find_checkpoint(run))["members"])
    autoencoders = {name: vl.load(run, member=name) for name in members}
    x = held_out(yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"])
    noisy = x + noise_like(x)
    measured = {name: measure(autoencoder, x, noisy) for name, autoencoder in autoencoders.items()}
    alive = {name: values.pop("alive_latents") for name, values in measured.items()}
    groups = {
        kind: summary([measured[name] for name in names], [autoencoders[n].W_dec[alive[n]] for n in names])
        for kind, names in grouped(members)
    }
    origin = json.loads((run / "run.json").read_text())
    result = {"tokens": len(x), "groups": groups, "members": measured}
    write_json(run / "sampling_study.json", result | {key: origin[key] for key in ("versions", "device", "config")})
    Console(width=140).print(table(groups))


def held_out(data: dict[str, Any]) -> Tensor:
    """The activations that validation reads; bundled text only."""
    model = LanguageModel(data["model_name"], data["hook_name"], data["dtype"])
    store = TokenStore.prepare(
        BundledText(),
        model.tokenizer,
        data["context_length"],
        data["prepend_bos"],
        data["max_tokens"],
        data["cache_dir"],
    )
    model.load(torch.device("cpu"))
    sequences = torch.arange(data["validation_tokens"] // data["context_length"])
    chunks = (token_tensor(store.held_out, chunk) for chunk in sequences.split(16))
    return torch.cat([model.activations(chunk)[:, data["drop_positions"] :].flatten(0, 1).float() for chunk in chunks])


def noise_like(x: Tensor) -> Tensor:
    directions = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return NOISE * x.norm(dim=-1, keepdim=True) * torch.nn.functional.normalize(directions, dim=-1)


@torch.no_grad()
def measure(autoencoder: vl.SparseAutoencoder, x: Tensor, noisy: Tensor) -> dict[str, Any]:
    energy = (x - x.mean(0)).square().sum()
    error = error_noisy = jaccard = torch.zeros(())
    fired = torch.zeros(autoencoder.d_sae, dtype=torch.long)
    for clean_rows, noisy_rows in zip(x.split(2048), noisy.split(2048), strict=True):
        clean, disturbed = autoencoder.encode(clean_rows), autoencoder.encode(noisy_rows)
        error = error + (clean_rows - autoencoder.decode(clean)).square().sum()
        error_noisy = error_noisy + (clean_rows - autoencoder.decode(disturbed)).square().sum()
        both, either = ((clean != 0) & (disturbed != 0)).sum(-1), ((clean != 0) | (disturbed != 0)).sum(-1)
        jaccard = jaccard + (both / either.clamp_min(1)).sum()
        fired += (clean != 0).sum(0)
    rows = torch.nn.functional.normalize(autoencoder.W_dec[fired > 0], dim=-1)
    cosine = (rows @ rows.T).fill_diagonal_(0).abs()
    return {
        "explained_variance": float(1 - error / energy),
        "alive": float((fired > 0).float().mean()),
        "explained_variance_noisy": float(1 - error_noisy / energy),
        "jaccard": float(jaccard / len(x)),
        "max_cosine": float(cosine.amax(-1).mean()),
        "alive_latents": fired > 0,
    }


def grouped(members: list[str]) -> Iterator[tuple[str, list[str]]]:
    for kind, names in itertools.groupby(sorted(members), key=lambda name: name.rpartition("_")[0]):
        yield kind, list(names)


def summary(values: list[dict[str, Any]], decoders: list[Tensor]) -> dict[str, list[float]]:
    """Mean and standard deviation over seeds."""
    stability = [mmcs(a, b) for a, b in itertools.permutations(decoders, 2)]
    columns = {key: [one[key] for one in values] for key in values[0]} | ({"mmcs": stability} if stability else {})
    return {key: [statistics.mean(v), statistics.stdev(v) if len(v) > 1 else 0.0] for key, v in columns.items()}


def mmcs(a: Tensor, b: Tensor) -> float:
    a, b = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
    return float((a @ b.T).amax(-1).mean())


def table(groups: dict[str, dict[str, list[float]]]) -> Table:
    drawn = Table("arm", *COLUMNS.values())
    for kind, values in groups.items():
        cells = [f"{values[key][0]:.4f} ± {values[key][1]:.4f}" if key in values else "" for key in COLUMNS]
        drawn.add_row(kind, *cells)
    return drawn


if __name__ == "__main__":
    main()
