"""How a peer's process is spoken to: one JSON line each way. Imports nothing, since every peer has its own packages."""

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

# Each is one token of the checkpoint's tokenizer, so that a question of n words is one of about n tokens.
WORDS = (
    *("what", "is", "in", "the", "picture", "and", "where"),
    *("does", "it", "stand", "more", "about", "each", "shape"),
)


class Request(NamedTuple):
    """One picture, one question, and how many tokens the answer has."""

    image: str
    text: str
    num_tokens: int


class Answers(NamedTuple):
    """What one run gave: CPU-seconds of the peer's process, tokens drawn, and each answer's token ids or its text."""

    cpu_seconds: float
    num_tokens: int
    answers: list[Any]


Run = Callable[[list[Request], int], Answers]


def serve(run: Run, about: str) -> None:
    """Say that we are ready, then answer one line after the other. run: (requests, how many at once)."""
    print(json.dumps({"about": about}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answers = run([Request(*request) for request in asked["requests"]], asked["at_once"])
        print(json.dumps(answers._asdict()), flush=True)


def prompt_of(request: Request) -> str:
    """The checkpoint's chat template, rendered by hand for engines that take a prompt."""
    return f"<|im_start|>User:<image> {request.text}<end_of_utterance>\nAssistant:"


def messages_of(request: Request, picture: dict[str, Any]) -> list[dict[str, Any]]:
    """The same as messages."""
    return [{"role": "user", "content": [picture, {"type": "text", "text": request.text}]}]
