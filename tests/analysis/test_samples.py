"""The map of samples where little fires."""

import torch

from observations import observation
from vsae_lightning.analysis.maps import Maps
from vsae_lightning.analysis.samples import sample_map


def test_latents_that_fire_in_none_of_the_samples_are_no_dimensions() -> None:
    fires = torch.zeros(400, 12)
    fires[torch.arange(12), torch.arange(12)] = 1.0
    assert sample_map(observation(torch.eye(12), fires), Maps(samples=10)) is None
