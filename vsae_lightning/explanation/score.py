"""One feature: its explanation, and how well that tells where it fires."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from vsae_lightning.explanation.answers import Answer, Answers
from vsae_lightning.explanation.endpoint import Endpoint
from vsae_lightning.explanation.material import Material, Question
from vsae_lightning.explanation.prompts import LONGEST, Prompt, detect, explain, fuzz

Ask = Callable[[Prompt], Awaitable[Answer]]
Verdicts = list[tuple[bool, bool]]
UNKNOWN = "x" * (LONGEST // 4)  # as long as an explanation may be expected to be


class Score(NamedTuple):
    """Of one feature.

    Attributes:
        explanation: In one line; None where no answer could be read, and then there are no scores.
        detection: Balanced accuracy of telling contexts where it fires from windows where it does not; None: unknown.
        fuzzing: Balanced accuracy of telling contexts that are marked rightly from those that are not; None: unknown.
        examples: How many texts were judged for both.
        tokens: What it cost.
    """

    explanation: str | None
    detection: float | None
    fuzzing: float | None
    examples: int
    tokens: int


async def score(material: Material, ask: Ask) -> Score:
    """Explain a feature, and score the explanation by detection and by fuzzing (Paulo et al. 2024, arXiv 2410.13928).

    Args:
        material: What to show and to ask.
        ask: Answers a prompt.
    """
    explained = await ask(explain(material.shown))
    if explained.content is None:
        return Score(None, None, None, 0, explained.tokens)
    judged, tokens = [], explained.tokens
    for batches, prompt in ((material.detection, detect), (material.fuzzing, fuzz)):
        verdicts: Verdicts = []
        for batch in batches:
            answer = await ask(prompt(explained.content, _texts(batch)))
            tokens += answer.tokens
            if answer.content is not None:  # a batch without an answer is not scored, never guessed
                verdicts += zip((question.fits for question in batch), answer.content, strict=True)
        judged.append(verdicts)
    detection, fuzzing = (balanced_accuracy(verdicts) for verdicts in judged)
    return Score(explained.content, detection, fuzzing, sum(map(len, judged)), tokens)


def balanced_accuracy(verdicts: Verdicts) -> float | None:
    """(share of yes among what fits + share of no among what does not) / 2; None where there is nothing of either.

    Args:
        verdicts: Of each question, whether it fits, and what was said.
    """
    yes = [said for fits, said in verdicts if fits]
    no = [not said for fits, said in verdicts if not fits]
    return (sum(yes) / len(yes) + sum(no) / len(no)) / 2 if yes and no else None


def remembering(endpoint: Endpoint, answers: Answers) -> Ask:
    """Asks the endpoint what has not been answered yet."""

    async def ask(prompt: Prompt) -> Answer:
        answer = _known(prompt, endpoint, answers)
        if answer is None:
            answer = await endpoint.ask(prompt)
            answers.put(prompt.key(endpoint.model, endpoint.parameters), answer)
        return answer

    return ask


def tokens_to_ask(material: Material, endpoint: Endpoint, answers: Answers) -> int:
    """An estimate of what the answers cost that are not there yet."""
    prompts = _all(material, endpoint, answers)
    return sum(prompt.tokens for prompt in prompts if _known(prompt, endpoint, answers) is None)


def _all(material: Material, endpoint: Endpoint, answers: Answers) -> Iterator[Prompt]:
    """Every prompt of a feature; where it is not explained yet, with an explanation of the usual length."""
    first = explain(material.shown)
    explained = _known(first, endpoint, answers)
    yield first
    if explained is None or explained.content is not None:
        explanation = UNKNOWN if explained is None else explained.content
        yield from (detect(explanation, _texts(batch)) for batch in material.detection)
        yield from (fuzz(explanation, _texts(batch)) for batch in material.fuzzing)


def _known(prompt: Prompt, endpoint: Endpoint, answers: Answers) -> Answer | None:
    """The answer that is stored, if the prompt can have it: the file of a stranger's run may say anything."""
    answer = answers.get(prompt.key(endpoint.model, endpoint.parameters))
    if answer is None or answer.content is None:
        return answer
    said = answer.content if isinstance(answer.content, str) else json.dumps(answer.content)
    return answer if prompt.read(said) == answer.content else None


def _texts(batch: list[Question]) -> list[str]:
    return [question.text for question in batch]
