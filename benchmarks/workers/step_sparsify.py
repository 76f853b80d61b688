"""One step of sparsify's SparseCoder, as its Trainer takes it, with Adam."""

from collections.abc import Callable

import torch
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor

from benchmarks.workers.harness import Measured, Settings, StepRecorder, activations, run, serve


def measure(settings: Settings) -> Measured:
    batches = activations(settings)
    coder, step = build(settings, batches[0])
    return run(lambda index: float(step(batches[index % len(batches)])), StepRecorder(settings, coder.parameters()))


def build(settings: Settings, first: Tensor) -> tuple[SparseCoder, Callable[[Tensor], Tensor]]:
    """A coder, and its step in the order of `sparsify.Trainer.fit`, whose loop needs a language model.

    It starts at the mean of the `first` batch, on that batch's device, and does not clip.
    """
    torch.manual_seed(0)
    device, d_sae = first.device, settings["d_sae"]
    coder = SparseCoder(settings["d_in"], SparseCoderConfig(num_latents=d_sae, k=settings["k"]), device=device)
    coder.b_dec.data = first.mean(0)
    optimizer = torch.optim.Adam(coder.parameters(), lr=settings["lr"])
    tokens_since_fired = torch.zeros(d_sae, dtype=torch.long, device=device)

    def step(x: Tensor) -> Tensor:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=tokens_since_fired > settings["dead_after_tokens"])
        fired = torch.zeros(d_sae, dtype=torch.bool, device=device)
        fired[out.latent_indices.flatten()] = True
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        tokens_since_fired.add_(len(x))
        tokens_since_fired[fired] = 0
        return out.fvu.detach()

    return coder, step


if __name__ == "__main__":
    serve(measure)
