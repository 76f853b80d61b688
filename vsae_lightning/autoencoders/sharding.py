"""Latents sharded over ranks: every rank has the whole batch and one slice of the dictionary."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard


class Shards:
    """Rank r of W holds the latents r d_sae / W, ..., (r + 1) d_sae / W - 1; without a mesh one holds them all.

    Args:
        mesh: One-dimensional, of the ranks that share the latents; None: nothing is shared, nothing communicated.
    """

    def __init__(self, mesh: DeviceMesh | None = None) -> None:
        self.mesh = mesh
        self.count = 1 if mesh is None else mesh.size()
        self.rank = 0 if mesh is None else mesh.get_local_rank()

    def distribute(self, parameter: nn.Parameter, dim: int | None) -> nn.Parameter:
        """A DTensor of which this rank holds its slice along `dim`, or all of it for None."""
        assert self.mesh is not None
        own = parameter.detach() if dim is None else self.slice(parameter.detach(), dim)
        # A copy: a view would keep the whole in memory.
        own = own.clone().to(self.mesh.device_type)
        placement = Replicate() if dim is None else Shard(dim)
        whole = DTensor.from_local(own, self.mesh, [placement], run_check=False)
        return nn.Parameter(whole, requires_grad=parameter.requires_grad)

    def slice(self, x: Float[Tensor, "*rest"] | Bool[Tensor, "*rest"], dim: int = -1) -> Tensor:
        """This rank's part of what has one entry per latent along `dim`."""
        if self.mesh is None:
            return x
        assert x.shape[dim] % self.count == 0
        width = x.shape[dim] // self.count
        return x.narrow(dim, self.rank * width, width)

    def gather(self, x: Tensor) -> Tensor:
        """The parts of all ranks along the last dimension, in order of the latents; without gradient."""
        if self.mesh is None:
            return x
        own = x.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own, self.mesh.get_group())
        return torch.cat(parts, dim=-1)

    def copy(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """x, equal on all ranks, for the use of each: the gradient is the sum of those of all ranks."""
        return x if self.mesh is None else _Copy.apply(x, self.mesh.get_group())

    def sum(self, x: Float[Tensor, "*shape"] | Int[Tensor, "*shape"]) -> Tensor:
        """The sum over ranks; the gradient, equal on all, reaches each part as it is."""
        if self.mesh is None:
            return x
        if x.is_floating_point():  # partial sums of a reconstruction are not rounded to bfloat16
            x = x.to(torch.promote_types(x.dtype, torch.float32))
        total: Tensor = _Sum.apply(x, self.mesh.get_group())
        return total

    def won(
        self, scores: Float[Tensor, "batch offered"], indices: Int[Tensor, "batch offered"], k: int
    ) -> Bool[Tensor, "batch offered"] | None:
        """Which of the latents that this rank offers are among the k largest of all ranks; None: all of them.

        A rank offers its min(k, width) largest of every row; those above the k-th largest of all offers win. Of
        scores equal to that, the first latents win, so that exactly k win in all; among equal scores of one rank
        whoever selected decides what is offered. What travels is `batch` times k per rank.
        """
        if self.mesh is None:
            return None
        order = indices.argsort(-1)
        scores = scores.detach().gather(-1, order)
        offers = self.gather(scores)
        smallest = offers.topk(k, dim=-1).values[:, -1:]
        free = k - (offers > smallest).sum(-1, keepdim=True)
        earlier = (offers[:, : self.rank * scores.shape[-1]] == smallest).sum(-1, keepdim=True)
        equal = scores == smallest
        won = (scores > smallest) | (equal & (earlier + equal.cumsum(-1) <= free))
        return torch.empty_like(won).scatter_(-1, order, won)


WHOLE = Shards()


def kept(values: Float[Tensor, "batch offered"], won: Bool[Tensor, "batch offered"] | None) -> Tensor:
    """`values` where they won, 0 elsewhere."""
    # A product, so that what is not a number shows, as it does where all is on one rank.
    return values if won is None else values * won


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a parameter that is sharded, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class _Copy(torch.autograd.Function):
    """Identity; the gradient is summed over ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None


class _Sum(torch.autograd.Function):
    """Sum over ranks; the gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return gradients[0], None
