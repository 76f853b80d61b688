"""No model makes anything be installed or run, whatever it reads besides text."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tiny_models import WITH_PICTURES, save_tiny
from vsae_lightning.data.bridges import nothing_is_run
from vsae_lightning.data.language_model import LanguageModel

HOOK = "blocks.1.hook_resid_post"
LOAD = """
import sys, torch
from vsae_lightning.data.language_model import LanguageModel
model = LanguageModel(sys.argv[1], "blocks.1.hook_resid_post")
model.require_weights()
model.load("cpu")
torch.save(model.activations(torch.arange(20).reshape(2, 10)), sys.argv[2])
"""
INSTALLERS = ("uv", "pip", "pip3", "conda", "mamba")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Stand-ins for installers, first on the path, which leave a marker; and a pip that `python -m` would find."""
    (tmp_path / "bin").mkdir()
    for name in INSTALLERS:
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(f"#!/bin/sh\necho $0 $* >> {tmp_path}/asked\nexit 1\n")
        stand_in.chmod(0o755)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "pip.py").write_text(f"open('{tmp_path}/asked', 'a').write('python -m pip')\n")
    path = os.pathsep.join([str(tmp_path / "modules"), *sys.path])
    return {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path}


@pytest.mark.parametrize("family", WITH_PICTURES)
def test_a_model_that_reads_pictures_is_read_as_text(
    family: str, tmp_path: Path, tiny_model: Path, environment: dict[str, str]
) -> None:
    whole = save_tiny(family, tmp_path / "model", tiny_model)
    command = [sys.executable, "-c", LOAD, str(tmp_path / "model"), str(tmp_path / "activations.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "asked").exists()
    with torch.no_grad():
        states = whole(input_ids=torch.arange(20).reshape(2, 10), output_hidden_states=True).hidden_states
    torch.testing.assert_close(torch.load(tmp_path / "activations.pt"), states[2], rtol=1e-4, atol=1e-4)


def test_the_stand_ins_would_be_run(environment: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from transformer_lens.model_bridge.sources.transformers.helpers import _ensure_torchvision as install\n"
        "install()"
    )
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
    assert (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    "run",
    [
        lambda: subprocess.check_call(["true"]),
        lambda: subprocess.run(["true"]),
        lambda: subprocess.Popen(["true"]),
        lambda: os.system("true"),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
    ],
)
def test_no_program_starts_while_a_model_is_loaded(run: object) -> None:
    assert callable(run)
    with nothing_is_run(), pytest.raises(PermissionError, match="without running any program"):
        run()
    run()


def test_another_thread_runs_its_programs_meanwhile() -> None:
    done: list[int] = []
    with nothing_is_run():
        thread = threading.Thread(target=lambda: done.append(subprocess.run(["true"]).returncode))
        thread.start()
        thread.join()
    assert done == [0]


def test_only_the_text_part_of_a_model_is_kept(tmp_path: Path, tiny_model: Path) -> None:
    save_tiny("gemma3", tmp_path / "model", tiny_model)
    model = LanguageModel(str(tmp_path / "model"), HOOK)
    model.require_weights()
    model.load("cpu")
    assert type(model.bridge.original_model).__name__ == "Gemma3ForCausalLM"
