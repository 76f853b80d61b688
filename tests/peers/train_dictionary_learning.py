"""Runs in the peers' environment: trains dictionary_learning's TopK or BatchTopK and writes what it did.

    .venv-peers/bin/python tests/peers/train_dictionary_learning.py TopK OUT.pt

Written: the batches, the weights before the first step and after the last, and the loss of every step.
"""

import sys

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.top_k import TopKTrainer

STEPS, BATCH, D_IN, D_SAE, K = 50, 128, 24, 400, 8
LR, WARMUP, DECAY_START, DEAD_AFTER = 3e-3, 5, 40, 300
TRAINERS = {"TopK": TopKTrainer, "BatchTopK": BatchTopKTrainer}


def main(kind: str, path: str) -> None:
    torch.manual_seed(0)
    trainer = TRAINERS[kind](
        steps=STEPS,
        activation_dim=D_IN,
        dict_size=D_SAE,
        k=K,
        layer=0,
        lm_name="none",
        lr=LR,
        warmup_steps=WARMUP,
        decay_start=DECAY_START,
        seed=0,
        device="cpu",
    )
    trainer.dead_feature_threshold = DEAD_AFTER
    directions = torch.randn(40, D_IN)
    batches = torch.rand(STEPS, BATCH, 40).pow(8) @ directions + 0.5
    batches /= batches.square().sum(-1).mean().sqrt()
    before = {name: value.clone() for name, value in trainer.ae.state_dict().items()}
    losses, dead = [], []
    for step, batch in enumerate(batches):
        losses.append(trainer.update(step, batch))
        dead.append(max(trainer.dead_features, 0))
    after = dict(trainer.ae.state_dict())
    torch.save({"batches": batches, "before": before, "after": after, "losses": losses, "dead": dead}, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
