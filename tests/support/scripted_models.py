"""Models for the chat server: some that know the features of `tiny_report`, and some that are no use."""

import json
import re
from collections.abc import Callable

from chat_server import Reply

Model = Callable[[str, str, int], Reply]


def knows(system: str, user: str, before: int) -> Reply:
    """Explains a feature by the word that is marked, and answers whether a text has it, or has it marked."""
    lines = user.split("\n")
    if not lines[0].startswith("description: "):
        return Reply(f"the word{re.findall('«([^»]*)»', json.loads(lines[0]))[0]}")
    word = json.loads(lines[0].removeprefix("description: ")).removeprefix("the word")
    texts = [json.loads(line.split(": ", 1)[1]) for line in lines[1:]]
    marks = [re.findall("«([^»]*)»", text) for text in texts]
    if any(marks):
        return Reply(json.dumps([int(all(set(mark.split()) == {word.strip()} for mark in found)) for found in marks]))
    return Reply(json.dumps([int(word in text) for text in texts]))


def says_yes(system: str, user: str, before: int) -> Reply:
    """Finds that all texts fit."""
    count = len(user.split("\n")) - 1
    return Reply(json.dumps([1] * count) if user.startswith("description: ") else "anything")


def rambles(system: str, user: str, before: int) -> Reply:
    """Explains, but gives no lists."""
    return Reply("Well, [1, 0 or so" if user.startswith("description: ") else "anything")


def at_first(count: int, reply: Reply, then: Model = knows) -> Model:
    """The first so many requests fare otherwise."""
    return lambda system, user, before: reply if before < count else then(system, user, before)


def always(reply: Reply) -> Model:
    """Whatever is asked."""
    return lambda system, user, before: reply
