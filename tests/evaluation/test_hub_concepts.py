"""Local copies of the hub's sets, and what is read where there is neither them nor the hub."""

import json
from importlib.util import find_spec
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation import hub_concepts
from vsae_lightning.evaluation.concept_tables import class_tables
from vsae_lightning.evaluation.hub_concepts import hub_tables

ROWS = [
    {"text": "good", "category": 24, "rating": 5.0},
    {"text": "bad", "category": 30, "rating": 1.0},
    {"text": "of no concern", "category": 23, "rating": 1.0},
    {"text": "", "category": 24, "rating": 1.0},
]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_local_copy_is_known_by_its_columns(suffix: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        path = tmp_path / "data" / f"{split}-00000-of-00001{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        else:
            path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    (table,) = hub_tables(str(tmp_path))
    assert table.name == "canrager/amazon_reviews_mcauley_1and5"
    assert table.train == table.test == [("good", "Books", "5.0"), ("bad", "Software", "1.0")]
    assert table.attributes == ("1.0", "5.0")


def test_a_file_that_is_torn_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"data: .*train\.parquet cannot be read"):
        hub_tables(str(tmp_path))


def test_without_a_hub_there_are_no_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub_concepts._is_available.cache_clear()
    hub_tables.cache_clear()
    assert hub_tables(None) == []
    hub_concepts._is_available.cache_clear()
    hub_tables.cache_clear()


@pytest.mark.skipif(find_spec("sae_probes") is None, reason="sae-probes is not installed")
def test_what_sae_probes_has_is_split_by_class() -> None:
    occupations, topics = class_tables("sae-probes", 0.75)
    assert occupations.classes == ("journalist", "athlete", "actor", "politician", "singer")
    assert topics.classes == ("World", "Sports", "Business")
    of_sports = [sum(row.concept == "Sports" for row in rows) for rows in (topics.train, topics.test)]
    assert of_sports == [1500, 500]
    assert not {row.text for row in topics.train} & {row.text for row in topics.test}
