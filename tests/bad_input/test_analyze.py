"""Bad options of `vsae analyze`: told before the text is read, and no report is begun."""

import shutil
from pathlib import Path

import pytest

from refusals import Refusal

OPTIONS = {
    "fewer tokens than a sequence": (["--tokens", "15"], "tokens is 15; it must be at least one sequence of 16"),
    "tokens a word": (["--tokens", "all"], "tokens is 'all'; it must be of type int"),
    "features a word": (["--features", "all"], "features: 'all' is no feature and no range of them; they are 0 to 95"),
    "features that there are not": (["--features", "90-96"], "features: '90-96' is no feature"),
    "range from high to low": (["--features", "9-3"], "features: '9-3' is no feature"),
    "member of no ensemble": (["--member", "topk"], "member is 'topk'"),
    "device that there is not": (["--device", "quantum"], "device is 'quantum'"),
    "another run that is not there": (["--against", "gone"], "against is 'gone'"),
    "member of another run that is no ensemble": (["--against", "own:topk"], "against is 'own:topk'"),
    "map with a typo": (["--maps.which", "activaton"], "there is no map 'activaton'; there are activation, decoder"),
    "perplexity 1": (["--maps.perplexity", "1"], "maps.perplexity is 1"),
    "density 1": (["--maps.min_density", "1"], "maps.min_density is 1"),
    "a map of three samples": (["--maps.samples", "3"], "maps.samples is 3; it must be 0, or at least 10"),
    "no intervals": (["--contexts.intervals", "0"], "contexts.intervals is 0; it must be at least 1"),
    "contexts fewer than none": (["--contexts.strongest", "-1"], "contexts.strongest is -1"),
    "a cosine of 2": (["--comparison.threshold", "2"], "comparison.threshold is 2"),
    "scores without an endpoint": (["--score"], "scoring.url is not given"),
    "scores without a model": (["--score", "--scoring.url", "http://localhost:1/v1"], "scoring.model is not given"),
    "an endpoint that is none": (["--score", "--scoring.url", "localhost"], "scoring.url must start with http"),
    "an option with a typo": (["--contexts.strongst", "3"], "there is no option --contexts.strongst"),
}


@pytest.mark.parametrize(("options", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_a_bad_option_is_refused(
    options: list[str],
    expected: str,
    run: Path,
    config: Path,
    desk: Path,
    refusal: Refusal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "VSAE_SCORING_MODEL"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(run, desk / "own", ignore=shutil.ignore_patterns("events*", "latents", "report"))
    cache = ["--cache_dir", str(config.parent / "cache")]  # where the tokens are already
    assert expected in refusal(["analyze", "own", *options, *cache])
