"""Linear probes of concepts, trained as SAEBench trains them (evals/sparse_probing/probe_training.py)."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

Groups = Mapping[str, Int[Tensor, " group"]]


class Examples(NamedTuple):
    """Rows, the texts that they are of, and to each a label, 1 for the group in question and 0 for others."""

    rows: Int[Tensor, " examples"]
    labels: Int[Tensor, " examples"]


def against_partner(groups: Groups, name: str, generator: Generator) -> Examples:
    """A group, and the one that it is told from: groups are listed in pairs."""
    names = list(groups)
    partner = names[names.index(name) ^ 1]
    return _mixed(groups[name], groups[partner], generator)


def against_rest(groups: Groups, name: str, generator: Generator) -> Examples:
    """A group, and as many rows of all the others together, drawn anew by each call."""
    others = [rows for other, rows in groups.items() if other != name]
    each = math.ceil(len(groups[name]) / len(others))
    drawn = [rows[_order(len(rows), generator)[:each]] for rows in others]
    return _mixed(groups[name], torch.cat(drawn), generator)


def _mixed(positive: Tensor, negative: Tensor, generator: Generator) -> Examples:
    negative = negative[_order(len(negative), generator)[: len(positive)]]
    rows = torch.cat([positive, negative])
    labels = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
    order = _order(len(rows), generator)
    return Examples(rows[order], labels[order])


def _order(count: int, generator: Generator) -> Tensor:
    """A random order; of the same generator's state the same on every device."""
    return torch.randperm(count, generator=generator)


@dataclass(frozen=True)
class ProbeTraining:
    """How a probe is trained: AdamW on the binary cross-entropy plus l1_penalty ||w||_1.

    Attributes:
        patience: Epochs without a better test accuracy after which training stops.
    """

    batch_size: int
    epochs: int
    lr: float
    l1_penalty: float
    patience: int

    def fit(
        self,
        x: Float[Tensor, "train d_in"],
        y: Int[Tensor, " train"],
        test_x: Float[Tensor, "test d_in"],
        test_y: Int[Tensor, " test"],
        generator: Generator,
    ) -> nn.Linear:
        """A probe as it was after the epoch of the best accuracy on the test rows, the first of equals."""
        probe = _new_probe(x.shape[1], generator).to(x.device)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=self.lr)
        best, best_accuracy, waited = probe, 0.0, 0
        for _ in range(self.epochs):
            self._epoch(probe, optimizer, x, y.to(x), generator)
            reached = accuracy(logits(probe, test_x), test_y)
            if reached > best_accuracy:
                best, best_accuracy, waited = copy.deepcopy(probe), reached, 0
            else:
                waited += 1
            if waited >= self.patience:
                break
        return best.requires_grad_(False)

    def _epoch(
        self, probe: nn.Linear, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, generator: Generator
    ) -> None:
        with torch.enable_grad():
            for rows in _order(len(x), generator).split(self.batch_size):
                loss = nn.functional.binary_cross_entropy_with_logits(logits(probe, x[rows]), y[rows])
                loss = loss + self.l1_penalty * probe.weight.abs().sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def logits(probe: nn.Linear, x: Float[Tensor, "rows d_in"]) -> Float[Tensor, " rows"]:
    """w x + b."""
    return probe(x).squeeze(-1)


def accuracy(logits: Float[Tensor, " rows"], labels: Int[Tensor, " rows"]) -> float:
    """The fraction of rows whose logit is positive where the label is 1, and only there."""
    return ((logits > 0) == (labels == 1)).float().mean().item()


def _new_probe(d_in: int, generator: Generator) -> nn.Linear:
    """Initialised as `nn.Linear` is, of `generator`."""
    probe = nn.utils.skip_init(nn.Linear, d_in, 1)
    with torch.no_grad():
        nn.init.kaiming_uniform_(probe.weight, a=math.sqrt(5), generator=generator)
        nn.init.uniform_(probe.bias, -1 / math.sqrt(d_in), 1 / math.sqrt(d_in), generator=generator)
    return probe
