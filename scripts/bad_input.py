"""Writes docs/bad_input.md: every bad input of tests/bad_input, and what is said of it.

python scripts/bad_input.py
"""

import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "bad_input.md"
HEAD = """# Bad input

What `tests/bad_input` tries, and the one line that each gets, on standard error after `vsae: error: ` with exit
status 2, or as `InputError` from Python. The disk is left as it was. `DESK` is the working folder. Written by
`scripts/bad_input.py`.

"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "bad_input"), f"--junitxml={report}"],
            check=True,
            cwd=ROOT,
        )
        cases = ElementTree.parse(report).iter("testcase")
        lines = [line for case in cases if (line := _line(case)) is not None]
    PAGE.write_text(HEAD + "| input | message |\n|---|---|\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} inputs: {PAGE}")


def _line(case: ElementTree.Element) -> str | None:
    messages = [entry.get("value") for entry in case.iter("property") if entry.get("name") == "refusal"]
    if not messages:
        return None
    file = case.get("classname", "").rpartition("test_")[2]
    shown = re.search(r"\[(.*)\]$", case.get("name", ""))
    name = shown[1] if shown else case.get("name", "").removeprefix("test_").replace("_", " ")
    message = re.sub(r"/\S*/pytest-of-[^/]*/pytest-\d+/", "", str(messages[0]))
    return f"| {_cell(f'{file}: {name}')} | {_cell(message)} |"


def _cell(text: str, longest: int = 300) -> str:
    return (
        textwrap.shorten(text, longest, placeholder="...")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("*", "\\*")
        .replace("`", "'")
    )


if __name__ == "__main__":
    main()
