"""Dictionaries too large for one device: the latents are shared out over ranks, and so are their checkpoints."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from vsae_lightning.autoencoders.shards import (
    is_sharded,
    read_index,
    read_part,
    separate,
    verify,
    write_rest,
    write_shard,
)
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.errors import InputError
from vsae_lightning.linked_folders import WRITING, prepare, publish, sweep

T = TypeVar("T")


class ShardedStrategy(ModelParallelStrategy):
    """Every rank trains one slice of the latents, on the activations of all ranks.

    The language model stays data-parallel: each rank runs it on its own share of the text, and the activations of
    a batch are gathered. Weights, gradients and optimizer state of a latent are on one rank alone. The run is the one
    that it would be unsharded, but for the order of summation. A module is made whole in the memory of the host before
    each rank keeps its slice; no device ever holds it.

    A checkpoint is a folder (`autoencoders.shards`), which all ranks write at once, and a link to it in the place of
    the file that it is otherwise; all ranks must see the same file system. The link moves when the folder is whole.

    Args:
        process_group_backend: None: nccl on GPUs, gloo on CPUs.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(data_parallel_size=1, process_group_backend=process_group_backend)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def setup_environment(self) -> None:
        self._tensor_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """As torch.optim gives it, with DTensors in it.

        Raises:
            InputError: It has state that is neither a number nor of the shape of its parameter.
        """
        optimizer = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                    raise InputError(
                        f"model.optimizer: {type(optimizer).__name__} keeps {name!r} in another shape than the "
                        "parameter's, which is not sharded; use Adam, AdamW or SGD."
                    )
        return optimizer.state_dict()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write the checkpoint as a folder beside `filepath`, then make `filepath` a link to it.

        Raises:
            OSError and others: A rank could not write; on all ranks alike.
        """
        assert storage_options is None
        link = Path(self.broadcast(filepath))
        rest, slices = separate(checkpoint)
        self._on_first_rank(lambda: prepare(link))
        writing = link.parent / WRITING
        record = self._together(lambda: write_shard(writing, self.global_rank, self.world_size, slices))
        records = self._of_all_ranks(record)
        self._on_first_rank(lambda: write_rest(writing, rest, records, slices))
        self._on_first_rank(lambda: publish(writing, f"sharded-{checkpoint['global_step']}", link))

    def load_checkpoint(
        self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None
    ) -> dict[str, Any]:
        """A checkpoint, sharded over any number of ranks or ordinary, with at least this rank's slices in it.

        Raises:
            InputError: It is torn; on all ranks alike.
        """
        path = Path(self.broadcast(checkpoint_path))
        if not is_sharded(path):
            return read_checkpoint(path, in_memory=False)
        self._together(lambda: self._verify_share(path))
        return self._together(lambda: read_part(path, self.global_rank, self.world_size))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        state = {name: _placed(value, own.get(name)) for name, value in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {name: _placed(value, parameters[number]) for name, value in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})

    def remove_checkpoint(self, filepath: str | os.PathLike[str]) -> None:
        if self.is_global_zero:
            Path(filepath).unlink()
            sweep(Path(filepath).parent)

    def _verify_share(self, folder: Path) -> None:
        """Of the files, as many as the other ranks verify too."""
        files = read_index(folder).files
        verify(folder, {name: files[name] for name in sorted(files)[self.global_rank :: self.world_size]})

    def _on_first_rank(self, action: Callable[[], Any]) -> None:
        self._together(action if self.is_global_zero else lambda: None)

    def _together(self, action: Callable[[], T]) -> T:
        """What the action gives on this rank; where it fails on one it fails on all, or the others would wait."""
        failure: Exception | None = None
        try:
            result = action()
        except Exception as error:  # whatever it is
            failure = error
        first = next((error for error in self._of_all_ranks(failure) if error is not None), None)
        if first is not None:
            raise failure or first
        return result

    def _of_all_ranks(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values


def _placed(value: Any, like: Tensor | None) -> Any:
    """A whole tensor, or this rank's slice of it, as a DTensor like `like`; what is none, or a number, as it is."""
    if not isinstance(value, Tensor) or value.dim() == 0 or not isinstance(like, DTensor):
        return value
    (placement,) = like.placements
    own = like.to_local()
    if isinstance(placement, Shard) and value.shape != own.shape:
        value = value.chunk(like.device_mesh.size(), placement.dim)[like.device_mesh.get_local_rank()]
    value = value.to(own.device, memory_format=torch.contiguous_format, copy=True)
    return DTensor.from_local(value, like.device_mesh, like.placements, run_check=False)
