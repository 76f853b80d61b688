"""Logistic regressions on features of a language model, split, selected, fitted and scored as sae-probes does it."""

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Penalty = Literal["l1", "l2"]
LEAST_TEXTS = 228
MOST_TRAINED = 1024
LEAST_TESTED = 100
STRENGTHS = np.logspace(5, -5, 10)
EPSILON = 1e-6


class Split(NamedTuple):
    """Positions of the texts to train on and of those to test on, in the order in which they are used."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


class ProbeScores(NamedTuple):
    """Of a probe on its test texts; F1 is the mean of both classes' by their number (scikit-learn's "weighted")."""

    accuracy: float
    auc: float
    f1: float


def balanced_split(labels: NDArray[np.int64], seed: int) -> Split:
    """Up to 1024 texts to train on and all others but one to test on, half of each of either label.

    The draws are those of sae-probes (`utils_data.get_train_test_indices`, setting "normal").

    Args:
        labels: 0 and 1, as many of one as of the other, `LEAST_TEXTS` or more in all.
    """
    generator = np.random.RandomState(seed)
    trained = min(len(labels) - LEAST_TESTED, MOST_TRAINED)
    tested = len(labels) - trained - 1
    left = {label: np.flatnonzero(labels == label) for label in (1, 0)}
    drawn = []
    for size in (trained, tested):
        halves = {1: -(-size // 2), 0: size // 2}
        taken = {label: generator.choice(left[label], size=half, replace=False) for label, half in halves.items()}
        left = {label: np.setdiff1d(left[label], taken[label]) for label in left}
        drawn.append(np.concatenate(list(taken.values())))
    return Split(*(generator.permutation(positions) for positions in drawn))


def by_mean_difference(latents: Any, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Latents in the order in which sae-probes selects them: |mean_1 f_j / m_j - mean_0 f_j / m_j|, largest first.

    m_j is the mean of |f_j| over the texts where it is active (`run_sae_evals.mean_act_normalization`).

    Args:
        latents: f, a scipy sparse matrix [texts, d_sae] without stored zeros.
        labels: 0 and 1, one a text.
    """
    ones = labels.sum()
    weights = np.where(labels == 1, 1 / ones, -1 / (len(labels) - ones))
    active = latents.count_nonzero(axis=0)
    magnitude = abs(latents).sum(axis=0, dtype=np.float64) / (active + EPSILON)
    difference = (latents.T @ weights) / (magnitude + EPSILON)
    return np.argsort(-np.abs(difference), kind="stable")


def probe(
    train: Any,
    train_labels: NDArray[np.int64],
    test: Any,
    test_labels: NDArray[np.int64],
    penalty: Penalty,
    seed: int,
) -> ProbeScores:
    """A logistic regression whose strength C has the best AUC on the last texts of training, fitted on all of them.

    `utils_training.find_best_reg` of sae-probes: ten C from 1e5 to 1e-5, the last fifth but no more than 100 texts
    held out, 1000 iterations at most (of which some do not converge), no scaling of features.

    Args:
        train: Features [texts, features], dense or scipy sparse; `test` likewise.
        penalty: l1 by SAGA or l2 by L-BFGS.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    fitted = len(train_labels) - min(len(train_labels) // 5, LEAST_TESTED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = []
        for strength in STRENGTHS:
            model = _regression(penalty, strength, seed).fit(train[:fitted], train_labels[:fitted])
            scores.append(roc_auc_score(train_labels[fitted:], model.predict_proba(train[fitted:])[:, 1]))
        order = np.random.RandomState(seed).permutation(len(train_labels))
        best = _regression(penalty, STRENGTHS[np.argmax(scores)], seed).fit(train[order], train_labels[order])
    predicted = best.predict(test)
    return ProbeScores(
        accuracy=float(accuracy_score(test_labels, predicted)),
        auc=float(roc_auc_score(test_labels, best.predict_proba(test)[:, 1])),
        f1=float(f1_score(test_labels, predicted, average="weighted")),
    )


def _regression(penalty: Penalty, strength: float, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    how = {"l1_ratio": 1.0, "solver": "saga"} if penalty == "l1" else {"solver": "lbfgs"}
    return LogisticRegression(C=strength, random_state=seed, max_iter=1000, **how)
