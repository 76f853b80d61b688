"""The noise of a training batch: a function of seed, lane and row, so that neither ranks nor batches change it."""

from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.sharding import Shards
from vsae_lightning.seeding import GRANULE_ROWS, derive_seed, granules

PARALLEL_FROM = 2**18  # numbers, from where threads pay


def standard_normal(
    seed: int, rows: int, width: int, first_row: int, lanes: tuple[int, ...], shards: Shards, device: torch.device
) -> Float[Tensor, "rows width"]:
    """Independent N(0, 1), in equal parts for each lane.

    Args:
        seed: Of all of it.
        rows: Of the batch.
        width: Numbers of a row, of which this rank gets its share.
        first_row: The place of the first row of each lane in that lane's endless sequence.
        lanes: Which lanes the rows are of, lane after lane.
        shards: The part of the width that is wanted here.
        device: Where it is drawn, which matters for its values.
    """
    noise = torch.empty(rows, width // shards.count, device=device)

    def fill(chance: torch.Generator, part: Tensor, lane: int, granule: int, wanted: slice) -> None:
        chance.manual_seed(derive_seed("noise", seed, lane, granule))
        if wanted == slice(0, GRANULE_ROWS) and shards.count == 1:
            part.normal_(generator=chance)
        else:
            whole = part.new_empty(GRANULE_ROWS, width).normal_(generator=chance)
            part.copy_(shards.slice(whole[wanted]))

    parts = [
        (part[place], lane, granule, wanted)
        for part, lane in zip(noise.view(len(lanes), -1, noise.shape[1]), lanes, strict=True)
        for granule, wanted, place in granules(first_row, len(part))
    ]
    # On a CPU one thread draws from one generator; granules have each their own.
    pays = device.type == "cpu" and shards.count == 1 and noise.numel() > PARALLEL_FROM
    threads = torch.get_num_threads() if pays else 1
    if threads == 1:
        chance = torch.Generator(device)
        for part in parts:
            fill(chance, *part)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: fill(torch.Generator(device), *part), parts))
    return noise
