"""One step of sparsify's SparseCoder, as its Trainer takes it, with Adam."""

import torch
from sparsify import SparseCoder, SparseCoderConfig

from benchmarks.workers.harness import Measured, Settings, StepRecorder, activations, run, serve


def measure(settings: Settings) -> Measured:
    """The order of `sparsify.Trainer.fit`, whose loop is not to be had without a language model; it does not clip."""
    torch.manual_seed(0)
    batches = activations(settings)
    coder = SparseCoder(settings["d_in"], SparseCoderConfig(num_latents=settings["d_sae"], k=settings["k"]))
    coder.b_dec.data = batches[0].mean(0)
    optimizer = torch.optim.Adam(coder.parameters(), lr=settings["lr"])
    tokens_since_fired = torch.zeros(settings["d_sae"], dtype=torch.long)

    def step(index: int) -> float:
        x = batches[index % len(batches)]
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=tokens_since_fired > settings["dead_after_tokens"])
        fired = torch.zeros(settings["d_sae"], dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        tokens_since_fired.add_(len(x))
        tokens_since_fired[fired] = 0
        return float(out.fvu.detach())

    return run(step, StepRecorder(settings, coder.parameters()))


if __name__ == "__main__":
    serve(measure)
