"""How features are explained and scored."""

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from jsonargparse.typing import SecretStr

from vsae_lightning.errors import InputError, require_at_least

URL, MODEL, KEY = "OPENAI_BASE_URL", "VSAE_SCORING_MODEL", "OPENAI_API_KEY"
NO_KEY = "no-key"  # the client refuses to have none
OURS = {"messages", "model", "stream"}


@dataclass(frozen=True)
class Scoring:
    """How features are explained and scored, by which language model.

    Args:
        url: Of an endpoint that speaks OpenAI's chat protocol, such as http://localhost:8000/v1; None: OPENAI_BASE_URL.
        model: Which of its models; None: VSAE_SCORING_MODEL.
        api_key: Its key; None: OPENAI_API_KEY, or none where that is not set, as for most local servers.
        features: How many, at random of those that fire; or which: [12, 40].
        seed: Of all that is random.
        shown: So many of the strongest contexts are what an explanation comes from; never more than half of them.
        examples: So many contexts where a feature fires, and as many others, are asked about for each score.
        batch: So many are asked about at a time.
        budget_tokens: Of prompts and answers together, no more are asked for.
        concurrency: So many requests are under way at a time.
        timeout: Seconds until a request counts as failed.
        retries: So often a failed request is sent again, after growing pauses.
        parameters: What else a request says, in the endpoint's words.

    Raises:
        InputError: One of them is out of its range.
    """

    url: str | None = None
    model: str | None = None
    api_key: SecretStr | None = None
    features: int | list[int] = 100
    seed: int = 0
    shown: int = 12
    examples: int = 15
    batch: int = 5
    budget_tokens: int = 1_000_000
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 4
    parameters: dict[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 1000})

    def __post_init__(self) -> None:
        for name in ("shown", "examples", "batch", "budget_tokens", "concurrency"):
            require_at_least(1, **{f"scoring.{name}": getattr(self, name)})
        require_at_least(0, **{"scoring.retries": self.retries, "scoring.seed": self.seed})
        require_at_least(0.001, **{"scoring.timeout": self.timeout})
        if isinstance(self.features, int):
            require_at_least(1, **{"scoring.features": self.features})
        if taken := OURS & self.parameters.keys():
            raise InputError(f"scoring.parameters has {min(taken)!r}; no request may say that in another way.")

    def endpoint(self) -> tuple[str, str, str]:
        """The address, the model and the key, from here or else from the environment.

        Raises:
            InputError: There is no address or model, or one of the three cannot be used; the key is never named. Or
                the package that asks is missing.
        """
        if find_spec("openai") is None:
            raise InputError("score needs the package openai: pip install -e '.[score]'.")
        url = self.url or os.environ.get(URL)
        model = self.model or os.environ.get(MODEL)
        key = self.api_key.get_secret_value() if self.api_key else os.environ.get(KEY)
        if not url:
            raise InputError(
                f"scoring.url is not given; give the endpoint's, such as http://localhost:8000/v1, or {URL}."
            )
        if not url.startswith(("http://", "https://")) or "@" in url:
            raise InputError(
                "scoring.url must start with http:// or https://, and hold no password: that is the api_key."
            )
        if not model:
            raise InputError(f"scoring.model is not given; give the name of one of the endpoint's models, or {MODEL}.")
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise InputError("scoring.api_key has a blank or another character that no HTTP header can carry.")
        return url, model, key or NO_KEY
