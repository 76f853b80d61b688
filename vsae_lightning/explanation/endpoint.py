"""The language model that is asked, behind an endpoint that speaks OpenAI's chat protocol."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vsae_lightning.errors import InputError
from vsae_lightning.explanation.answers import Answer
from vsae_lightning.explanation.prompts import Prompt
from vsae_lightning.explanation.settings import Scoring

if TYPE_CHECKING:
    from openai import OpenAIError

TRIES = 2  # a malformed answer is asked for once more
FOR_GOOD = {401, 403, 404}


class BudgetSpent(Exception):  # noqa: N818, it is no error
    """The next request might go beyond the budget; nothing was sent."""


class NotAnswered(Exception):  # noqa: N818, others may be answered
    """A request failed as often as it was sent."""


class Endpoint:
    """Asks, within the budget; failed requests are sent again by the `openai` package, which obeys Retry-After.

    Args:
        settings: Address, model, key, and how to ask.

    Attributes:
        host: Whom it asks.
        spent: Tokens so far: as the server counts them, or where it does not, as `Prompt.tokens` estimates them.
    """

    def __init__(self, settings: Scoring) -> None:
        url, self.model, self._key = settings.endpoint()
        from openai import AsyncOpenAI

        self.parameters = settings.parameters
        self.budget = settings.budget_tokens
        self.spent = 0
        self._under_way = 0
        self.host = urlsplit(url).netloc
        self._client = AsyncOpenAI(
            base_url=url, api_key=self._key, max_retries=settings.retries, timeout=settings.timeout
        )

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, prompt: Prompt) -> Answer:
        """Send a prompt until its answer can be read, at most `TRIES` times.

        Raises:
            BudgetSpent: It might cost more than what is left.
            NotAnswered: The request failed, or what came was no completion.
            InputError: All requests must fail: a wrong address, model or key.
        """
        tokens = 0
        for _ in range(TRIES):
            text, cost = await self._send(prompt)
            tokens += cost
            content = None if text is None else prompt.read(text)
            if content is not None:
                break
        if text is None:
            raise NotAnswered("what came is no completion")
        return Answer(content, tokens)

    async def _send(self, prompt: Prompt) -> tuple[str | None, int]:
        if self.spent + self._under_way + prompt.tokens > self.budget:
            raise BudgetSpent
        self._under_way += prompt.tokens
        try:
            text, cost = await self._completion(prompt)
        finally:
            self._under_way -= prompt.tokens
        self.spent += cost
        return text, cost

    async def _completion(self, prompt: Prompt) -> tuple[str | None, int]:
        """The text, None where there is none at all, and what it cost."""
        from openai import OpenAIError

        messages: Any = prompt.messages
        try:
            found = await self._client.chat.completions.create(
                model=self.model, messages=messages, extra_body=self.parameters
            )
        except OpenAIError as error:
            raise self._failure(error) from None
        except ValueError:  # cut off: no JSON
            return None, prompt.tokens
        if not hasattr(found, "choices"):
            raise InputError(f"scoring.url: {self.host} answers no chat protocol; the address often ends in /v1.")
        text = (found.choices[0].message.content or "") if found.choices else None
        return text, getattr(found.usage, "total_tokens", None) or prompt.tokens

    def _failure(self, error: "OpenAIError") -> Exception:
        if getattr(error, "status_code", None) in FOR_GOOD:
            return InputError(f"scoring.url, .model or .api_key: {self.host} answers: {self._said(error)}")
        return NotAnswered(self._said(error))

    def _said(self, error: Exception) -> str:
        """The message and what is behind it, on one line and without the key, whatever a server repeats of it."""
        text = f"{error} {error.__cause__ or ''}".replace(self._key, "***")
        return "".join(letter if letter.isprintable() else " " for letter in text)[:300].strip()
