"""Text that Markdown shows as it is, whatever is in it."""

import unicodedata

# They have no shape of their own, or change that of what follows: a line, a direction. The joiners of emoji stay.
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"


def literal(text: str) -> str:
    """Markdown of one line; punctuation is written as character references, and what is invisible by its name.

    Newlines become ↵, tabs ⇥, and other control characters their code in brackets, such as [U+202E].
    """
    return "".join(_literal(character) for character in text)


def _literal(character: str) -> str:
    if character in "\n\t":
        return {"\n": "↵", "\t": "⇥"}[character]
    if unicodedata.category(character) in INVISIBLE and character not in JOINERS:
        return f"&#91;U&#43;{ord(character):04X}&#93;"
    if character.isascii() and not character.isalnum() and character != " ":
        return f"&#{ord(character)};"
    return character
