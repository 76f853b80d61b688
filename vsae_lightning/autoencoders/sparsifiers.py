"""Sparsifiers: pre-activations (or a sample of the posterior) to latents."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.choice import Choice
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import DenseLatents, Latents
from vsae_lightning.autoencoders.parts import Part
from vsae_lightning.autoencoders.sharding import WHOLE, Shards

RankMean = Callable[[Tensor], Tensor]


class Sparsifier(Part, ABC):
    """Decides by a score which latents of a row are active, and lets their values through.

    In an SAE the score is the value, the pre-activation. In a vSAE the value is the sample z, and the score
    is z (selection after sampling) or the posterior mean (selection before sampling). Where only the scores of
    `choice` were computed, what is called a score of all latents below is None.

    Attributes:
        samples: Whether its selection in training needs the noise of a `Draw`.
        needs_penalty: Whether it learns a sparsity only if its penalty has a weight.
        has_gate: Whether a latent is on exactly when its score exceeds a threshold.
        learns_threshold: Whether `calibrate` learns something for evaluation.
        can_shard: Whether it selects right where every rank has the scores of its own latents alone.
        shards: Which latents this rank has; z, scores and norms are of these.
    """

    samples: bool = False
    needs_penalty: bool = False
    has_gate: bool = True
    learns_threshold: bool = False
    can_shard: bool = False
    shards: Shards = WHOLE

    @abstractmethod
    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> Latents:
        """Latents of values `z` selected by `score`; `draw` is that of a training batch, None in evaluation."""

    def choice(self, draw: Draw | None) -> Choice | None:
        """How `forward` selects, where that needs of a row no more than its largest scores; None where it does not."""
        return None

    def target_l0(self, draw: Draw | None) -> int | None:
        """Active latents per row that it aims at; None where the penalty decides."""
        return None

    def fit_to(self, d_sae: int) -> None:
        """Prepare for a dictionary of `d_sae` latents; called once, by the autoencoder.

        Raises:
            InputError: This sparsifier cannot serve so many.
        """

    def penalty(
        self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, norms: Float[Tensor, " d_sae"]
    ) -> Float[Tensor, " batch"]:
        """What `sparsity_weight` weighs; by default the L1 sum_j |f_j| ||W_dec[j]||."""
        return latents.l1(norms)

    def side_error(
        self,
        x: Float[Tensor, "batch d_in"],
        score: Float[Tensor, "batch d_sae"] | None,
        latents: Latents,
        W_dec: Float[Tensor, "d_sae d_in"],
        b_dec: Float[Tensor, " d_in"],
    ) -> Float[Tensor, " batch"] | None:
        """Squared errors of the further reconstructions that this sparsifier trains; None if there are none."""
        return None

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        """The score from which on a latent was on in this pass, broadcastable to `score`, without gradient.

        Raises:
            NotImplementedError: `has_gate` is false; SAE and VSAE refuse such a combination before.
        """
        raise NotImplementedError(f"{type(self).__name__} has no gate")

    def observe(
        self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw, rank_mean: RankMean
    ) -> None:
        """Take in the statistics of a training batch, whose scores may be samples.

        What evaluation depends on is learned in `calibrate`, from the scores that evaluation sees.
        """

    def calibrate(self, scores: Iterable[Float[Tensor, "rows d_sae"]], rows: int) -> None:
        """Learn what evaluation needs, a threshold for example; called where `learns_threshold` is true.

        Training calls this before every validation and every checkpoint, on its last rows. What is learned must
        depend on these scores alone, so that a resumed run ends as one that was never interrupted.

        Args:
            scores: The scores of all latents (of all ranks) as evaluation has them, some rows at a time.
            rows: The number of rows in all of `scores`.
        """

    def reset_(self, dead: Bool[Tensor, " d_sae"]) -> None:
        """Give the `dead` latents the parameters they started with."""


class Dense(Sparsifier):
    """f = z: no sparsifier. With a KL, the plain variational autoencoder."""

    has_gate = False
    can_shard = True

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> DenseLatents:
        return DenseLatents(z, self.shards)


class ReLU(Sparsifier):
    """f = z where the score is positive: max(z, 0) in an SAE. The L1 (or the KL) decides how many are active."""

    can_shard = True

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> DenseLatents:
        return DenseLatents(nn.functional.relu(z) if score is z else z * (score > 0), self.shards)

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        assert score is not None
        return score.new_zeros(())
