"""What no trainer can do without, alone: the encoder's product; and what noise on every latent costs."""

import torch

from benchmarks.workers.harness import Measured, Settings, StepRecorder, activations, run, serve


@torch.no_grad()
def measure(settings: Settings) -> Measured:
    """`products` products [batch, d_in] x [d_in, d_sae], and with `noise` as many normal numbers as latents.

    Into memory that is there already, which no trainer has to ask for.
    """
    batches = activations(settings)
    W_enc = torch.randn(settings["d_in"], settings["d_sae"]) / settings["d_in"] ** 0.5
    b_enc = torch.zeros(settings["d_sae"])
    pre_acts, noise = (torch.zeros(settings["batch"], settings["d_sae"]) for _ in range(2))

    def step(index: int) -> float:
        for _ in range(settings["products"]):
            torch.addmm(b_enc, batches[index % len(batches)], W_enc, out=pre_acts)
        if settings["noise"]:
            noise.normal_()
        return 0.0

    return run(step, StepRecorder(settings))


if __name__ == "__main__":
    serve(measure)
