"""How well an autoencoder found a dictionary that is known, and how well a vSAE knows what it does not know."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

# A decoder row with a larger cosine points to a feature; a latent of larger precision stands for it.
POINTS_TO = 0.5
STANDS_FOR = 0.5
# A latent of larger recall stands for the whole feature, one of smaller for a part of it.
WHOLE = 0.9
# A latent that fires in fewer of the rows in which its feature is on is silent there.
SILENT = 0.5


class Matching(NamedTuple):
    """Each feature's own latent: the one-to-one matching with the greatest sum of cosines.

    cosine: <d_i, w_j> / (||d_i|| ||w_j||) of every feature and every decoder row. Signed: latents are not
        negative, so a row that points the other way has not found the feature.
    features, latents: The pairs; with fewer latents than features some features have none.
    """

    cosine: Float[Tensor, "num_features d_sae"]
    features: Int[Tensor, " matched"]
    latents: Int[Tensor, " matched"]

    @property
    def close(self) -> "Matching":
        """The pairs with a cosine above 0.5 alone."""
        kept = self.cosine[self.features, self.latents] > POINTS_TO
        return Matching(self.cosine, self.features[kept], self.latents[kept])

    def own(self) -> Bool[Tensor, "num_features d_sae"]:
        """Whether a latent is the feature's own."""
        own = torch.zeros_like(self.cosine, dtype=torch.bool)
        own[self.features, self.latents] = True
        return own


def match_latents(dictionary: Float[Tensor, "num_features d_in"], W_dec: Float[Tensor, "d_sae d_in"]) -> Matching:
    """The Hungarian matching of true features (rows of `dictionary`) and decoder rows."""
    cosine = F.normalize(dictionary.double(), dim=-1) @ F.normalize(W_dec.detach().double(), dim=-1).T
    pairs = linear_sum_assignment(cosine.cpu().numpy(), maximize=True)
    return Matching(cosine, *(torch.from_numpy(index).to(cosine.device) for index in pairs))


def latent_units(
    matching: Matching,
    dictionary: Float[Tensor, "num_features d_in"],
    W_dec: Float[Tensor, "d_sae d_in"],
    input_scale: Float[Tensor, ""],
) -> Float[Tensor, " matched"]:
    """What a true strength of 1 is in the units of the matched latent, for every pair.

    A feature of strength c adds input_scale * c * d to what the autoencoder sees; the multiple of its own
    decoder row w that is nearest to it is z = c * input_scale * ||d|| cos(d, w) / ||w||. A mean subtracted from
    the input, or a part of the feature in b_dec, changes no units: what it adds to a latent is its error.
    """
    features, latents = matching.features, matching.latents
    norms = dictionary[features].norm(dim=-1) / W_dec.detach()[latents].norm(dim=-1)
    return (input_scale * norms * matching.cosine[features, latents]).float()


class FeatureRecovery(Metric):
    """How much of the dictionary was found, as scalars; features that never occur count in the first two alone.

    - `mmcs`: the mean over features of the greatest cosine with any decoder row (Sharkey et al. 2022).
    - `mcc`: the mean over features of the cosine with the own latent; 0 for a feature without one.
    - `firing_precision`, `firing_recall`, `firing_f1`: of the own latent as a detector of its feature, mean
      over features; 0 for a latent that is never active.
    - `split_fraction`: of features that several latents stand for, each a part of it: two or more latents
      point to the feature more than to any other, with a cosine and a precision above 0.5, and none of
      them fires in more than 0.9 of the feature's rows.
    - `absorbed_fraction`: of parents whose own latent fires in at least half of the rows in which no child is
      on, but in less than half of those with a certain child on (after Chanin et al. 2024, arXiv
      2409.14507); only where there are parents.

    Args:
        matching: Of the features and the decoder rows, on the device of the metric.
        parents: The parent of every feature, -1 where it has none; a child is on only where its parent is.
    """

    full_state_update = False
    joint: Tensor
    features: Tensor
    latents: Tensor
    alone_joint: Tensor
    alone_features: Tensor

    def __init__(self, matching: Matching, parents: Int[Tensor, " num_features"]) -> None:
        super().__init__()
        self.matching = matching
        self.own = matching.own()
        self.child = (parents >= 0).nonzero().squeeze(1)
        self.parent = parents[self.child]
        self.families = self.parent.unique()
        (num_features, d_sae), num_families = matching.cosine.shape, len(self.families)
        # Rows in which a feature is on, a latent active, both; "alone": a parent on, and none of its children.
        self._count("joint", num_features, d_sae)
        self._count("features", num_features)
        self._count("latents", d_sae)
        self._count("alone_joint", num_families, d_sae)
        self._count("alone_features", num_families)

    def update(self, codes: Float[Tensor, "batch num_features"], latents: Float[Tensor, "batch d_sae"]) -> None:
        """`codes`: true strengths, 0 where a feature is absent; `latents`: 0 where a latent is not active."""
        on, active = (codes != 0).float(), (latents != 0).float()
        children_on = torch.zeros_like(on).index_add(1, self.parent, on[:, self.child])
        alone = (on * (children_on == 0))[:, self.families]
        self.joint += (on.T @ active).long()
        self.features += on.sum(0).long()
        self.latents += active.sum(0).long()
        self.alone_joint += (alone.T @ active).long()
        self.alone_features += alone.sum(0).long()

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        cosine = self.matching.cosine
        occurs = self.features > 0
        hits, fired = (self.joint * self.own).sum(1), (self.latents * self.own).sum(1)
        values = {
            "mmcs": cosine.amax(1).mean(),
            "mcc": cosine[self.own].sum() / len(cosine),
            "firing_precision": (hits / fired.clamp_min(1))[occurs].mean(),
            "firing_recall": (hits / self.features)[occurs].mean(),
            "firing_f1": (2 * hits / (fired + self.features))[occurs].mean(),
            "split_fraction": self._split()[occurs].float().mean(),
        }
        if len(self.families):
            values["absorbed_fraction"] = self._absorbed().float().mean()
        return {name: value.float() for name, value in values.items()}

    def _count(self, name: str, *shape: int) -> None:
        self.add_state(name, torch.zeros(shape, dtype=torch.long), dist_reduce_fx="sum")

    def _split(self) -> Bool[Tensor, " num_features"]:
        cosine = self.matching.cosine
        precision = self.joint / self.latents.clamp_min(1)
        recall = self.joint / self.features.clamp_min(1)[:, None]
        nearest = F.one_hot(cosine.argmax(0), len(cosine)).T.bool()
        stands = nearest & (cosine > POINTS_TO) & (precision > STANDS_FOR)
        return (stands.sum(1) >= 2) & ~(stands & (recall > WHOLE)).any(1)

    def _absorbed(self) -> Bool[Tensor, " num_families"]:
        # What never occurred has the rate 0 / 0, which is neither silent nor not.
        alone = (self.alone_joint * self.own[self.families]).sum(1) / self.alone_features
        with_child = (self.joint[self.child] * self.own[self.parent]).sum(1) / self.features[self.child]
        return torch.isin(self.families, self.parent[with_child < SILENT]) & (alone >= SILENT)


class SigmaCalibration(Metric):
    """The root mean square of (true value - posterior mean) / sigma.

    1: sigma is the error that the mean makes; more: the posterior is too sure of itself; less: not enough.
    Over the rows in which a feature is on and its own latent active, all matched pairs together.
    """

    full_state_update = False
    count: Tensor
    sum_squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sum_squares", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        truth: Float[Tensor, "batch matched"],
        mean: Float[Tensor, "batch matched"],
        sigma: Float[Tensor, "batch matched"],
        active: Bool[Tensor, "batch matched"],
    ) -> None:
        """All in the units of the latents, see `latent_units`; `truth` is 0 where the feature is absent."""
        counted = active & (truth != 0)
        self.count += counted.sum()
        self.sum_squares += ((truth - mean)[counted] / sigma[counted]).double().square().sum()

    def compute(self) -> Float[Tensor, ""]:
        return (self.sum_squares / self.count).sqrt().float()


class MeanKL(Metric):
    """The mean over rows of KL(q || p) of each latent, in nats."""

    full_state_update = False
    count: Tensor
    sum_kl: Tensor

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sum_kl", torch.zeros(d_sae, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, kl: Float[Tensor, "batch d_sae"]) -> None:
        self.count += len(kl)
        self.sum_kl += kl.double().sum(0)

    def compute(self) -> Float[Tensor, " d_sae"]:
        return (self.sum_kl / self.count).float()
