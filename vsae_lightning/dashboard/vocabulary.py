"""What tokens are, for pages that put them together again: text, or the bytes of a part of a character."""

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MOST = 10_000_000
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def vocabulary(tokenizer: "PreTrainedTokenizerFast", embeddings: int = MOST) -> list[str | list[int]]:
    """Of every token its text, or its bytes where these are not text by themselves.

    Added and special tokens are what they are called. A number that no token has is empty.

    Args:
        tokenizer: A byte-level one (GPT-2, Pythia), or one of pieces with bytes to fall back on (Llama, Gemma).
        embeddings: Number of tokens that the language model knows.
    """
    # Numbers may have gaps, so that the largest is no measure of how many tokens there are.
    count = min(1 + max(tokenizer.get_vocab().values()), embeddings)
    pieces = tokenizer.convert_ids_to_tokens(list(range(count)))
    added, content = tokenizer.added_tokens_decoder, _content(tokenizer)
    return [
        piece or "" if token in added or not piece else _text_or_bytes(content(piece))
        for token, piece in enumerate(pieces)
    ]


def _content(tokenizer: "PreTrainedTokenizerFast") -> Callable[[str], bytes]:
    """What makes the bytes of a piece."""
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]
    if "ByteLevel" not in json.dumps(decoder):
        return _of_piece
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    return lambda piece: bytes(byte_of[character] for character in piece)


def _of_piece(piece: str) -> bytes:
    byte = BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()


def _text_or_bytes(content: bytes) -> str | list[int]:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return list(content)
