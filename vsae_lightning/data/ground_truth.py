"""A dictionary that is known: how its features look, how often each fires, and which fire together."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.data.statistics import InputStatistics
from vsae_lightning.errors import InputError
from vsae_lightning.seeding import generator

MAX_FREQUENCY = 0.5
MAX_VALUES = 2**30  # of the dictionary: 4 GiB


@dataclass(frozen=True)
class FeatureLaw:
    """How features look and fire; `SyntheticDataModule` says what each option means.

    Raises:
        InputError: An option out of its range, or more features in structures than there are.
    """

    d_in: int
    num_features: int
    mean_active: float
    zipf_exponent: float
    norm_spread: float
    magnitude_spread: float
    correlated_pairs: int
    pair_correlation: float
    hierarchies: int
    children_per_parent: int
    exclusive_sets: int
    exclusive_set_size: int
    noise_std: float
    clusters: int = 0
    cluster_spread: float = 0.5

    def __post_init__(self) -> None:
        for name in ("d_in", "num_features", "children_per_parent"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("zipf_exponent", "norm_spread", "correlated_pairs", "hierarchies", "exclusive_sets", "noise_std"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        most = MAX_VALUES // self.d_in
        self._require("num_features", self.num_features <= most, f"at most {MAX_VALUES:,} / d_in = {most}")
        most_clusters = self.num_features // 2
        self._require("clusters", 0 <= self.clusters <= most_clusters, f"0 to num_features / 2 = {most_clusters}")
        self._require("cluster_spread", 0 < self.cluster_spread < math.inf, "positive and finite")
        self._require("exclusive_set_size", self.exclusive_set_size >= 2, "at least 2")
        self._require("magnitude_spread", 0 <= self.magnitude_spread < 1, "at least 0 and less than 1")
        self._require("pair_correlation", 0 <= self.pair_correlation <= 1, "between 0 and 1")
        bound = MAX_FREQUENCY * self.num_features
        self._require(
            "mean_active", 0 < self.mean_active <= bound, f"positive, and at most num_features / 2 = {bound:g}"
        )
        if self.structured > self.num_features:
            raise InputError(
                f"num_features is {self.num_features}, but correlated_pairs, hierarchies and exclusive_sets take "
                f"{self.structured} features, each its own; raise num_features, or lower one of them."
            )

    @property
    def structured(self) -> int:
        """Features in pairs, hierarchies and exclusive sets; no feature is in two of them."""
        families = self.hierarchies * (1 + self.children_per_parent)
        return 2 * self.correlated_pairs + families + self.exclusive_sets * self.exclusive_set_size

    def _require(self, name: str, holds: bool, right: str) -> None:
        if not holds:
            raise InputError(f"{name} is {getattr(self, name)}; it must be {right}.")


class KnownDictionary:
    """Rows x = sum_i c_i d_i + noise of `num_features` known features d_i, most frequent first.

    Feature i fires with probability `frequencies[i]` exactly, whatever structure it is in, and then has a
    strength c_i uniform in 1 +- magnitude_spread, independent of all others. Structures, of features
    drawn by the seed:

    - clusters: d_i is the direction of c + cluster_spread * e, c the direction that its cluster shares and e one of its
      own; both are uniform on the sphere, so that in many dimensions the cosine of two features of a cluster is
      1 / (1 + cluster_spread^2), and 0 of any others; it has no bearing on when they fire;
    - pairs: two features of neighbouring rank fire together with probability
      p q + correlation * sqrt(p (1 - p) q (1 - q)), which makes the phi coefficient the correlation;
    - families: each child fires with probability p_child / p_parent where its parent does, else never;
    - exclusive sets: one draw decides which member fires, if any.

    Args:
        law: What to draw.
        seed: Of the directions, the norms and the assignment of features to structures.

    Attributes:
        dictionary: Feature directions times norms, in the units of the activations.
        frequencies: Firing probability of every feature, falling.
        clusters: Which cluster every feature is in, of sizes that differ by one at most; -1: there are none.
        pairs: Features of each pair.
        families: The parent of each family, then its children.
        sets: Features of each exclusive set.

    Raises:
        InputError: Too few neighbours can be correlated so much, or the frequencies of a set exceed 1.
    """

    def __init__(self, law: FeatureLaw, seed: int) -> None:
        self.law = law
        chance = generator("cpu", "synthetic-dictionary", seed)
        directions = F.normalize(torch.randn(law.num_features, law.d_in, generator=chance), dim=-1)
        self.clusters, directions = _clustered(directions, law, seed)
        norms = (law.norm_spread * torch.randn(law.num_features, 1, generator=chance)).exp()
        self.dictionary: Float[Tensor, "num_features d_in"] = norms * directions
        self.frequencies = capped_zipf(law.num_features, law.mean_active, law.zipf_exponent)
        self.pairs = self._choose_pairs(chance)
        self.families, self.sets = self._choose_groups(chance)
        together = self.frequencies[self.sets].sum(-1)
        if (together > 1).any():
            raise InputError(
                f"exclusive_set_size is {law.exclusive_set_size}, but the frequencies of such a set sum to "
                f"{float(together.max()):.3g}, and at most one of it may fire; lower it, or mean_active."
            )

    @property
    def parents(self) -> Int[Tensor, " num_features"]:
        """The parent of every feature, -1 where it has none."""
        parents = torch.full((self.law.num_features,), -1)
        parents[self.families[:, 1:]] = self.families[:, :1]
        return parents

    def draw(
        self, rows: int, chance: torch.Generator
    ) -> tuple[Float[Tensor, "rows d_in"], Float[Tensor, "rows num_features"]]:
        """(activations, codes) of independent rows; a code is a feature's strength, 0 where it is absent."""
        spread = self.law.magnitude_spread
        active = self._active(rows, chance)
        strengths = torch.rand(active.shape, generator=chance) * (2 * spread) + (1 - spread)
        codes = active * strengths
        noise = torch.randn(rows, self.law.d_in, generator=chance)
        return codes @ self.dictionary + self.law.noise_std * noise, codes

    def co_firing(self) -> Float[Tensor, "num_features num_features"]:
        """P(i and j fire), exactly; the diagonal holds the frequencies."""
        p, families, sets = self.frequencies, self.families, self.sets
        first, second = self.pairs.T
        joint = torch.outer(p, p)
        joint[first, second] = joint[second, first] = self._both()
        # Given the parent, children are independent; for a parent and its child this is p_child.
        within = p[families][:, :, None] * p[families][:, None] / p[families[:, :1, None]]
        joint[families[:, :, None], families[:, None]] = within
        joint[sets[:, :, None], sets[:, None]] = 0
        joint.diagonal().copy_(p)
        return joint

    def statistics(self) -> InputStatistics:
        """E[x] and E||x||^2 by the law itself, not by sampling."""
        dictionary = self.dictionary.double()
        second_moment = self.co_firing()
        second_moment.diagonal().mul_(1 + self.law.magnitude_spread**2 / 3)
        energy = (second_moment * (dictionary @ dictionary.T)).sum() + self.law.d_in * self.law.noise_std**2
        return InputStatistics(self.frequencies @ dictionary, energy)

    def _active(self, rows: int, chance: torch.Generator) -> Bool[Tensor, "rows num_features"]:
        p = self.frequencies.float()
        draw = torch.rand(rows, len(p), generator=chance)
        active = draw < p
        first, second = self.pairs.T
        with_first, without_first = self._second_given_first()
        active[:, second] = draw[:, second] < torch.where(active[:, first], with_first, without_first)
        parents, children = self.families[:, :1], self.families[:, 1:]
        active[:, children] = active[:, parents] & (draw[:, children] < p[children] / p[parents])
        bounds = F.pad(p[self.sets].cumsum(-1), (1, 0))
        shared = draw[:, self.sets[:, :1]]
        active[:, self.sets] = (bounds[:, :-1] <= shared) & (shared < bounds[:, 1:])
        return active

    def _both(self) -> Float[Tensor, " pairs"]:
        """P(both of a pair fire)."""
        p = self.frequencies[self.pairs]
        return p.prod(-1) + self.law.pair_correlation * (p * (1 - p)).prod(-1).sqrt()

    def _second_given_first(self) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """P(second fires | first does), P(second fires | first does not)."""
        first, second = self.frequencies[self.pairs].T
        both = self._both()
        return (both / first).float(), ((second - both) / (1 - first)).float()

    def _choose_pairs(self, chance: torch.Generator) -> Int[Tensor, "pairs 2"]:
        """Neighbours by rank: how far two features can be correlated depends on how like their frequencies are."""
        neighbours = torch.arange(self.law.num_features // 2 * 2).view(-1, 2)
        p, q = self.frequencies[neighbours].T
        largest = (q * (1 - p) / (p * (1 - q))).sqrt()
        able = neighbours[largest >= self.law.pair_correlation]
        if len(able) < self.law.correlated_pairs:
            raise InputError(
                f"correlated_pairs is {self.law.correlated_pairs}, but features of frequencies near enough for a "
                f"pair_correlation of {self.law.pair_correlation} make {len(able)}; lower either, or zipf_exponent."
            )
        return able[torch.randperm(len(able), generator=chance)[: self.law.correlated_pairs]]

    def _choose_groups(
        self, chance: torch.Generator
    ) -> tuple[Int[Tensor, "hierarchies family"], Int[Tensor, "sets size"]]:
        order = torch.randperm(self.law.num_features, generator=chance)
        free = order[~torch.isin(order, self.pairs)]
        in_families = self.law.hierarchies * (1 + self.law.children_per_parent)
        in_sets = self.law.exclusive_sets * self.law.exclusive_set_size
        families, sets, _ = free.split([in_families, in_sets, len(free) - in_families - in_sets])
        return _deal(families, self.law.hierarchies), _deal(sets, self.law.exclusive_sets)


def capped_zipf(num_features: int, mean_active: float, exponent: float) -> Float[Tensor, " num_features"]:
    """Firing probabilities min(MAX_FREQUENCY, c r^-exponent) of ranks r = 1, 2, ..., with c such that they sum
    to `mean_active`."""
    before = torch.arange(num_features, dtype=torch.float64)
    weights = (before + 1) ** -exponent
    tails = weights.flip(0).cumsum(0).flip(0)
    # c, were the first 0, 1, 2, ... features at the cap; the first that keeps the next below it is right.
    scales = (mean_active - MAX_FREQUENCY * before) / tails
    fits = scales * weights <= MAX_FREQUENCY * (1 + 1e-12)
    return (scales[fits.nonzero()[0, 0]] * weights).clamp_max(MAX_FREQUENCY)


def _clustered(
    directions: Float[Tensor, "num_features d_in"], law: FeatureLaw, seed: int
) -> tuple[Int[Tensor, " num_features"], Float[Tensor, "num_features d_in"]]:
    """The cluster of every feature, and its direction, moved to where that of its cluster is."""
    if not law.clusters:
        return torch.full((len(directions),), -1), directions
    # Of its own generator: norms and structures are those of the same law without clusters.
    chance = generator("cpu", "synthetic-clusters", seed)
    cluster = (torch.arange(len(directions)) % law.clusters)[torch.randperm(len(directions), generator=chance)]
    centres = F.normalize(torch.randn(law.clusters, law.d_in, generator=chance), dim=-1)
    return cluster, F.normalize(centres[cluster] + law.cluster_spread * directions, dim=-1)


def _deal(features: Int[Tensor, " n"], groups: int) -> Int[Tensor, "groups size"]:
    """Groups of falling frequency, dealt like cards from the most frequent feature on."""
    return features.sort().values.view(-1, groups).T if groups else features.view(0, 1)
