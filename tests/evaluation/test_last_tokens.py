"""Features at last tokens: those of every text by itself, and latents without the zeros."""

from pathlib import Path

import pytest
import torch

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sparsifiers import ReLU, Sparsifier
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.evaluation.last_tokens import last_token_activations, sparse_latents
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import Provenance


@pytest.fixture(scope="module")
def subject(tiny_model: Path) -> Subject:
    provenance = Provenance(str(tiny_model), "blocks.1.hook_resid_post", context_length=8, lm_batch_sequences=4)
    return Subject("tiny", tiny_model, SparseAutoencoder(32, 8, ReLU()), provenance)


def test_each_is_that_of_its_text_alone_after_bos_and_cut_on_the_left(subject: Subject) -> None:
    texts = ["the quick brown fox jumps over a lazy dog", "fox", "the quick", "fox", "my box with five dozen"]
    found = last_token_activations(subject, texts, max_length=6)
    tokenizer = subject.model.tokenizer
    for text, activation in zip(texts, found, strict=True):
        ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"][-5:]]
        alone = subject.model.activations(torch.tensor([ids]))[0, -1]
        torch.testing.assert_close(activation, alone)
    assert len(tokenizer(texts[0])["input_ids"]) > 5


@pytest.mark.parametrize("sparsifier", [ReLU(), TopK(3)])
def test_latents_are_those_of_encode(sparsifier: Sparsifier) -> None:
    autoencoder = SparseAutoencoder(16, 64, sparsifier).requires_grad_(False)
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    latents = sparse_latents(autoencoder, x)
    dense = autoencoder.encode(x)
    torch.testing.assert_close(torch.from_numpy(latents.toarray()), dense)
    assert latents.nnz == int((dense != 0).sum())
