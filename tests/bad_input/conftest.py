"""A folder to work in that must come out as it went in, and the refusal of a command in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import vsae_lightning as vl
from refusals import Refusal, Settings, listing
from vsae_lightning.cli import main


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; whatever a test makes of its input lies in it too, and so do the caches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def refusal(
    desk: Path,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> Refusal:
    """Runs a bad command and returns the one line that it prints, having compared the disk before and after."""

    def run(arguments: list[str]) -> str:
        before = listing(desk)
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        printed = capfd.readouterr().err
        assert "Traceback" not in printed
        lines = [line for line in printed.splitlines() if line.startswith("vsae: error: ")]
        assert len(lines) == 1, printed
        assert listing(desk) == before
        message = lines[0].removeprefix("vsae: error: ").replace(str(desk), "DESK")
        record_property("refusal", message)
        return message

    return run


@pytest.fixture
def load_refusal(desk: Path, record_property: Callable[[str, object], None]) -> Callable[[Path], str]:
    """Loads a bad autoencoder and returns the message of the `InputError`, having compared the disk."""

    def run(path: Path) -> str:
        before = listing(desk)
        with pytest.raises(vl.InputError) as error:
            vl.load(path)
        assert listing(desk) == before
        message = " ".join(str(error.value).split()).replace(str(desk), "DESK")
        record_property("refusal", message)
        return message

    return run


@pytest.fixture
def settings(config: Path) -> Settings:
    """Good settings of a small run, whose tokens go to the cache of the desk."""
    content: Settings = yaml.safe_load(config.read_text())
    del content["data"]["init_args"]["cache_dir"]
    return content


@pytest.fixture
def base(desk: Path, settings: Settings) -> list[str]:
    """The options of a small run that is good."""
    path = desk / "base.yaml"
    path.write_text(yaml.safe_dump(settings))
    return ["--config", str(path)]


@pytest.fixture
def plain(desk: Path, settings: Settings) -> list[str]:
    """The same data under the plainest model: the parser is quicker with it."""
    model = {"class_path": "SAE", "init_args": {"d_sae": 96, "sparsifier": {"class_path": "ReLU"}}}
    path = desk / "base.yaml"
    path.write_text(yaml.safe_dump({**settings, "model": model}))
    return ["--config", str(path)]
