"""One run that is looked at while it trains."""

from pathlib import Path

import pytest

from vsae_lightning.cli import main

FEATURES = [0, 3, 7, 50]


@pytest.fixture(scope="session")
def watched(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `run`, with a map and examples at steps 6 and 12."""
    folder = tmp_path_factory.mktemp("watched")
    options = {
        "latent_map.every_n_steps": 6,
        "latent_map.max_features": 40,
        "feature_examples.every_n_steps": 6,
        "feature_examples.features": FEATURES,
        "feature_examples.max_tokens": 330,  # 20 sequences of 16
        "feature_examples.strongest": 3,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        main(["fit", "--config", str(config), *words])
    return folder / "lightning_logs" / "version_0"
