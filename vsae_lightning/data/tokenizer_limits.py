"""What a stranger's tokenizer may do with memory and time: its normalizer multiplies no text, its strings are short."""

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vsae_lightning.errors import InputError

MAX_GROWTH = 64
MAX_WORD = 1000
MAX_STRING = 100
# NFKC lengthens U+FDFA most, to 33 bytes; SentencePiece's own tables do the same.
UNICODE_FORM = 33
# Whatever may match between two characters, where a replacement adds and takes nothing away.
MAY_MATCH_NOTHING = re.compile(r"[*?|^$()]|\{,|\{0|\\[AbBGKzZ]")


@contextmanager
def failures_told(what: str) -> Iterator[None]:
    """Turn a panic of the tokenizer, which is no `Exception`, and a lack of memory into an `InputError`."""
    try:
        yield
    except MemoryError:
        raise InputError(f"{what}: this machine has too little memory; give smaller documents.") from None
    except BaseException as error:
        # pyo3 exports no name for the class.
        if type(error).__name__ != "PanicException":
            raise
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise InputError(f"{what}: its tokenizer.json is broken: {reason!r}.") from None


def require_modest(tokenizer: Any) -> None:
    """Refuse the content of a tokenizer.json that would turn little text into much.

    Raises:
        ValueError: With the part at fault.
    """
    if not isinstance(tokenizer, dict):
        raise ValueError("tokenizer.json is no object")
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        if (growth := _growth(tokenizer.get(part))) > MAX_GROWTH:
            raise ValueError(
                f"the {part} of tokenizer.json may make a text {growth:,.0f} times as long; {MAX_GROWTH} is the limit"
            )
    model = tokenizer.get("model") or {}
    longest = model.get("max_input_chars_per_word", 0)  # WordPiece looks at every part of a word
    if not isinstance(longest, int) or longest > MAX_WORD:
        raise ValueError(f"the max_input_chars_per_word of tokenizer.json is {longest!r}; {MAX_WORD} is the limit")
    for name in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        if len(str(model.get(name))) > MAX_STRING:
            raise ValueError(f"the {name} of tokenizer.json has more than {MAX_STRING} characters")


def _growth(step: Any) -> float:
    """How many times as long a text may become, in characters; what a text is begun with counts by its own length."""
    if isinstance(step, list):
        growth = 1.0
        for part in step:
            growth = min(growth * _growth(part), 1e15)
        return growth
    if not isinstance(step, dict):
        return 1
    growth = {"Replace": _replaced, "Prepend": _prepended, "Precompiled": _mapped}.get(str(step.get("type")), _plain)(
        step
    )
    return growth * max(
        _growth(part) for part in [None, *(value for value in step.values() if isinstance(value, (list, dict)))]
    )


def _plain(step: dict[str, Any]) -> float:
    return 1


def _replaced(step: dict[str, Any]) -> float:
    content, pattern = str(step.get("content")), step.get("pattern")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(literal, str) and literal:
        return max(1.0, len(content) / len(literal))
    expression = str(pattern.get("Regex") if isinstance(pattern, dict) else pattern)
    return len(content) + 1 if not expression or MAY_MATCH_NOTHING.search(expression) else max(1, len(content))


def _prepended(step: dict[str, Any]) -> float:
    length = len(str(step.get("prepend")))
    return 1 if length <= MAX_STRING else length


def _mapped(step: dict[str, Any]) -> float:
    """The longest text in a table of SentencePiece: the size of the trie, the trie, texts that end in a zero byte."""
    try:
        table = base64.b64decode(str(step.get("precompiled_charsmap")))
    except binascii.Error:
        return 1
    texts = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
    return max(1.0, max(map(len, texts)) / UNICODE_FORM)
