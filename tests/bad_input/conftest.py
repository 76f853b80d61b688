"""Good settings, which a test then spoils."""

from pathlib import Path

import pytest
import yaml

from refusals import Settings


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
