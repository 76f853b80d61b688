"""Probes of labelled rows: linear ones, L1-sparse ones over latents, and logistic ones on a few latents."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SparseMatrix = Any  # scipy.sparse.csr_matrix, a class that mypy does not see
ENCODED_ROWS = 256


@dataclass(frozen=True)
class LetterProbeTraining:
    """How one-against-the-rest logistic probes are trained, all at once (SAEBench evals/absorption/probing.py).

    The loss is the mean over rows and classes of the binary cross-entropy, in which the positives of a class weigh
    as much as its negatives, plus l1_decay times the mean over classes of sum_j |w_j|. Adam; the learning rate falls
    from 0.01 to 0.00001 exponentially, epoch by epoch.
    """

    batch_size: int
    epochs: int = 50
    weight_decay: float = 1e-4
    l1_decay: float = 0.0
    first_lr: float = 1e-2
    last_lr: float = 1e-5

    def fit(self, features: Tensor | SparseMatrix, classes: Int[Tensor, " rows"], device: torch.device) -> nn.Linear:
        """A row of weights for each class that occurs, in the order of `classes.unique()`.

        Weights and batches are drawn from torch's global generator, as SAEBench draws them.
        """
        labels = (classes[:, None] == classes.unique()).float().to(device)
        positives = labels.sum(0)
        loss_of = nn.BCEWithLogitsLoss(pos_weight=(len(labels) - positives) / positives)
        probe = nn.Linear(features.shape[1], labels.shape[1]).to(device)
        optimizer = torch.optim.Adam(probe.parameters(), lr=self.first_lr, weight_decay=self.weight_decay)
        decay = math.exp(math.log(self.last_lr / self.first_lr) / self.epochs)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
        # A loader, because its draws are SAEBench's; it takes all that has a length and can be indexed.
        batches: Any = DataLoader(
            cast(Dataset[int], range(len(labels))),
            batch_size=self.batch_size,
            shuffle=True,
            collate_fn=torch.tensor,
        )
        for _ in range(self.epochs):
            for rows in batches:
                optimizer.zero_grad()
                loss = loss_of(_rows(features, rows, device) @ probe.weight.T + probe.bias, labels[rows])
                if self.l1_decay:
                    loss = loss + self.l1_decay * probe.weight.abs().sum(-1).mean()
                loss.backward()
                optimizer.step()
            schedule.step()
        return probe.requires_grad_(False)


@torch.no_grad()
def sparse_latents(encode: Callable[[Tensor], Tensor], x: Float[Tensor, "rows d_in"]) -> SparseMatrix:
    """The latents of all rows, of which only the active ones take memory."""
    from scipy.sparse import csr_matrix, vstack

    return vstack([csr_matrix(encode(part).cpu().numpy()) for part in x.split(ENCODED_ROWS)], format="csr")


@dataclass(frozen=True)
class SplitLatents:
    """The latents that share the work of one feature.

    Attributes:
        latents: Which they are.
        f1: That of the k-sparse probe on the first k of them, k = 1, 2, ...
    """

    latents: list[int]
    f1: list[float]


def split_latents(
    candidates: Sequence[int],
    training: tuple[SparseMatrix, Bool[np.ndarray, " rows"]],
    test: tuple[SparseMatrix, Bool[np.ndarray, " test_rows"]],
    f1_jump_threshold: float,
) -> SplitLatents:
    """As many of the candidates, best first, as each improve the F1 of a logistic probe on them (SAEBench's splits).

    Args:
        candidates: Latents, best first.
        training: Latents by column, and what the probe tells apart.
        test: The same, by which the F1 is taken.
        f1_jump_threshold: What one more latent must add to it.
    """
    scores = (_f1_of_probe(candidates[:k], training, test) for k in range(1, len(candidates) + 1))
    f1 = before_plateau(scores, f1_jump_threshold)
    return SplitLatents(list(candidates[: len(f1)]), f1)


def before_plateau(f1: Iterable[float], jump: float) -> list[float]:
    """The first, and those after it for as long as each exceeds the one before by more than `jump`."""
    kept: list[float] = []
    for score in f1:
        if kept and not score > kept[-1] + jump:
            break
        kept.append(score)
    return kept


def f1_score(predicted: Bool[np.ndarray, " rows"], actual: Bool[np.ndarray, " rows"]) -> float:
    """2 TP / (2 TP + FP + FN); 0 where nothing is predicted and nothing is there."""
    wrong = int((predicted != actual).sum())
    right = 2 * int((predicted & actual).sum())
    return right / max(right + wrong, 1)


def _rows(features: Tensor | SparseMatrix, rows: Int[Tensor, " some"], device: torch.device) -> Tensor:
    """Rows of a matrix, as a tensor on `device`, sparse where the matrix is."""
    if isinstance(features, Tensor):
        return features[rows.to(features.device)].to(device)
    part = features[rows.numpy()].tocoo()
    places = torch.from_numpy(np.stack([part.row, part.col]).astype("int64"))
    values = torch.from_numpy(part.data)
    return torch.sparse_coo_tensor(places, values, part.shape, is_coalesced=True, check_invariants=False).to(device)


def _f1_of_probe(
    latents: Sequence[int],
    training: tuple[SparseMatrix, Bool[np.ndarray, " rows"]],
    test: tuple[SparseMatrix, Bool[np.ndarray, " test_rows"]],
) -> float:
    from sklearn.linear_model import LogisticRegression

    (x, y), (x_test, y_test) = training, test
    probe = LogisticRegression(max_iter=500, class_weight="balanced").fit(x[:, latents].toarray(), y)
    scores = x_test[:, latents].toarray() @ probe.coef_[0].astype("float32") + probe.intercept_[0].astype("float32")
    return f1_score(scores > 0, y_test)
