"""Labelled texts from files of every kind, and what is said of those that are none."""

import json
from pathlib import Path

import pytest

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.labelled import labelled_names, read_labelled


def test_labels_are_numbered_in_ascending_order_of_words(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text('prompt,other,target\n"a, ""b""\nc",1,yes\nd,2,no\n', encoding="utf-8")
    assert read_labelled("answers", tmp_path) == (['a, "b"\nc', "d"], [1, 0])


def test_labels_are_numbered_in_ascending_order_of_numbers(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 10}, {"text": "b", "label": 9}]
    (tmp_path / "numbers.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_labelled("numbers", tmp_path) == (["a", "b"], [1, 0])


def test_zstd_and_parquet_hold_the_same(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    content = "prompt,target\nfirst,False\nsecond,True\n"
    with pyarrow.output_stream(str(tmp_path / "packed.csv.zst"), compression="zstd") as file:
        file.write(content.encode())
    table = pyarrow.table({"text": ["first", "second"], "label": [False, True]})
    pyarrow.parquet.write_table(table, tmp_path / "table.parquet")
    assert labelled_names(tmp_path) == ["packed", "table"]
    assert read_labelled("packed", tmp_path) == read_labelled("table", tmp_path) == (["first", "second"], [0, 1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,class\na,1\nb,0\n", "has no column target or label"),
        ("target,class\n1,1\n0,0\n", "has no column prompt or text"),
        ("text,label\na,1\nb,2\nc,3\n", "there are 3 different labels; there must be two"),
        ("text,label\na,1\n,0\n", "a text is missing"),
        ("", "has no column prompt or text"),
    ],
)
def test_a_file_that_is_no_labelled_set_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "set.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_labelled("set", tmp_path)


def test_a_file_that_is_no_json_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text("text,label\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"set\.jsonl: cannot be read"):
        read_labelled("set", tmp_path)


def test_a_name_that_is_near_another_is_said(tmp_path: Path) -> None:
    (tmp_path / "toxic.csv").write_text("text,label\na,1\nb,0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no labelled set 'toxik'\. Did you mean toxic\?"):
        read_labelled("toxik", tmp_path)
    with pytest.raises(InputError, match="there is no labelled set in"):
        labelled_names(tmp_path / "nowhere")
