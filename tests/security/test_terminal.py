"""What a stranger's file can make the terminal show: one line of printable characters, of bounded length."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import vsae_lightning as vl
from vsae_lightning.autoencoders.storage import CONFIG_FILE, WEIGHTS_FILE
from vsae_lightning.errors import MAX_CHARACTERS, InputError, RunStopped, printable

CASES = {
    "plain": ("lightning_logs/version 0: k is 7.", "lightning_logs/version 0: k is 7."),
    "letters of any language": ("Länge 長さ длина 😀", "Länge 長さ длина 😀"),
    "colours": ("a\x1b[31mred", "a\\x1b[31mred"),
    "a title of the window": ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
    "controls of eight bits": ("a\x9b31m", "a\\x9b31m"),
    "backspaces": ("ok\b\bno", "ok\\x08\\x08no"),
    "a new line": ("one\nvsae: done\r\tx", "one vsae: done  x"),
    "other direction": ("a\u202egpj.exe", "a\\u202egpj.exe"),
    "no width": ("W\u200b_dec\ufeff", "W\\u200b_dec\\ufeff"),
    "half a character": ("\ud800", "\\ud800"),
    "beyond the plane": ("\U000e0041", "\\U000e0041"),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_an_error_shows_what_a_terminal_can(text: str, expected: str) -> None:
    assert str(InputError(text)) == expected
    assert str(RunStopped(text, 0)).startswith(expected)


@given(st.text(st.characters(codec=None), max_size=5000))
def test_an_error_is_one_line_whatever_it_quotes(text: str) -> None:
    shown = str(InputError(text))
    assert shown.isprintable()
    assert len(shown) <= MAX_CHARACTERS
    assert printable(shown) == shown
    shown.encode()


def test_a_long_error_is_cut_in_its_middle() -> None:
    shown = str(InputError("start" + "x" * 10**6 + "end"))
    assert shown.startswith("startxxx")
    assert shown.endswith("xxxend")
    assert len(shown) < MAX_CHARACTERS


def test_the_name_of_a_tensor_is_shown_escaped(tmp_path: Path) -> None:
    vl.save(vl.SparseAutoencoder(4, 8, vl.ReLU()), tmp_path)
    vl.load(tmp_path)
    weights = load_file(tmp_path / WEIGHTS_FILE)
    save_file({**weights, "\x1b[2Jgone\u202e": torch.zeros(3)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(InputError) as error:
        vl.load(tmp_path)
    assert "\\x1b[2Jgone\\u202e" in str(error.value)
    assert str(error.value).isprintable()


def test_a_value_of_a_description_is_shown_escaped(tmp_path: Path) -> None:
    vl.save(vl.SparseAutoencoder(4, 8, vl.ReLU()), tmp_path)
    path = tmp_path / CONFIG_FILE
    path.write_text(path.read_text().replace('"SparseAutoencoder"', '"\\u001b[31m"'))
    with pytest.raises(InputError, match=r"unknown autoencoder '\\x1b\[31m'"):
        vl.load(tmp_path)


def test_importing_any_module_starts_nothing(tmp_path: Path) -> None:
    """Neither the command line, nor a process, nor a file."""
    code = (
        "import importlib, pkgutil, sys, vsae_lightning\n"
        "seen = []\n"
        "def watch(event, arguments):\n"
        "    if event == 'open' and isinstance(arguments[1], str) and set(arguments[1]) & set('wxa+'):\n"
        "        seen.append(arguments[0])\n"
        "    if event in ('os.system', 'subprocess.Popen', 'os.remove', 'os.mkdir', 'socket.connect'):\n"
        "        seen.append((event, arguments))\n"
        "sys.argv = ['vsae', 'nonsense']\n"
        "found = pkgutil.walk_packages(vsae_lightning.__path__, 'vsae_lightning.')\n"
        "names = [module.name for module in found]\n"
        "sys.addaudithook(watch)\n"
        "for name in names:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error: assert 'vsae' not in error.name, error\n"  # of an extra
        "assert 'vsae_lightning.__main__' in names and len(names) > 150\n"
        "print(seen)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []


def test_the_module_is_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "vsae_lightning", "nonsense"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("vsae: error: unknown command 'nonsense'")
