"""Data files are what a browser would read, whatever is in them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsae_lightning.dashboard.data_files import read_data, write_data

HOSTILE = [
    "</script><script>alert('x')</script>",
    "quotes ' \" ` and \\ \\\\ \\u003c \\'",
    "control \x00\x07\n\r\t\x1b and \u2028\u2029",
    "right to left \u202eabc\u202c \u05d0\u05d1",
    "\U0001f600 \ufffd \ud83d",
    "<!-- ]]> &amp; &lt;",
]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    content = {"texts": HOSTILE, "count": 3, "known": True, "nothing": None}
    write_data(tmp_path, "features/0000", content)
    assert read_data(tmp_path, "features/0000") == content


def test_numbers_have_four_digits_and_json_has_no_nan(tmp_path: Path) -> None:
    write_data(tmp_path, "x", {"a": np.array([1.23456e-7, np.nan, -np.inf]), "b": np.int64(123456), "c": (0.1,)})
    assert read_data(tmp_path, "x") == {"a": [1.235e-7, None, None], "b": 123456, "c": [0.1]}


def test_a_file_is_ascii_on_one_line_and_closes_no_script(tmp_path: Path) -> None:
    write_data(tmp_path, "x", HOSTILE)
    text = (tmp_path / "data" / "x.js").read_bytes().decode("ascii")
    assert text.count("\n") == 1
    assert "<" not in text
    assert not any(ord(character) < 32 for character in text[:-1])


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_javascript_reads_the_same(tmp_path: Path) -> None:
    write_data(tmp_path, "x", HOSTILE)
    program = "globalThis.receive = (name, text) => console.log(JSON.stringify([name, JSON.parse(text)]));"
    script = program + (tmp_path / "data" / "x.js").read_text(encoding="ascii")
    found: Any = json.loads(subprocess.run(["node", "-e", script], capture_output=True, check=True).stdout)
    assert found == ["x", HOSTILE]
