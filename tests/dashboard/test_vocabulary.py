"""Tokens put together again are the text that they were made of."""

from pathlib import Path

import pytest

from vsae_lightning.dashboard.vocabulary import vocabulary

TEXTS = [
    "the quick brown fox",
    "  two  spaces\n\tand \u00a0 others",
    "\U0001f600\U0001f468\u200d\U0001f469 na\u00efve \u05d0\u05d1 \u202eabc \x00\x07",
    "<script>alert('x')</script> &amp; \ufffd",
]


def together(tokens: list[str | list[int]], ids: list[int]) -> bytes:
    return b"".join(token.encode() if isinstance(token, str) else bytes(token) for token in (tokens[i] for i in ids))


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_tokens_are_their_bytes(tiny_model: Path, text: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokens = vocabulary(tokenizer)
    assert len(tokens) == len(tokenizer)
    assert together(tokens, tokenizer(text)["input_ids"]) == text.encode()
    assert tokens[tokenizer.convert_tokens_to_ids("\u0120")] == " "
    assert tokens[tokenizer.convert_tokens_to_ids("\u00f0")] == [0xF0]


def test_added_tokens_are_what_they_are_called(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["\u0120literal"])
    tokens = vocabulary(tokenizer)
    assert tokens[0] == "<|endoftext|>"
    assert tokens[-1] == "\u0120literal"


@pytest.mark.parametrize("text", [text for text in TEXTS if "\ufffd" not in text])
def test_pieces_with_bytes_to_fall_back_on(text: str) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "t", "h", "e", "th", "the", "\u2581the"]
    merges = [("t", "h"), ("th", "e"), ("\u2581", "the")]
    bpe = Tokenizer(models.BPE({name: place for place, name in enumerate(names)}, merges, byte_fallback=True))
    bpe.normalizer = normalizers.Replace(" ", "\u2581")
    bpe.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>")
    tokens = vocabulary(tokenizer)
    assert tokens[:2] == ["<s>", "\x00"]
    assert tokens[1 + 0xF0] == [0xF0]
    assert tokens[-1] == " the"
    assert together(tokens, tokenizer(text, add_special_tokens=False)["input_ids"]) == text.encode()


@pytest.mark.parametrize(("embeddings", "count"), [(10, 10), (5, 5)])
def test_tokens_with_gaps_in_their_numbers_have_places_of_their_own(embeddings: int, count: int) -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 9}, unk_token="a"))
    words.decoder = decoders.Fuse()
    tokens = vocabulary(PreTrainedTokenizerFast(tokenizer_object=words), embeddings)
    assert len(tokens) == count
    assert tokens == ["a", *[""] * 8, "b"][:count]
