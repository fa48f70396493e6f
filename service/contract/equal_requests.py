"""Which requests are equal: those whose answers must be the same, whoever asks and however the answer is told."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from service.contract.chat import ChatRequest, media_refs, template_messages

# Part of every digest: to be raised when equal requests come to mean something else.
VERSION = 1

# Every field of a request is in one of these; a test holds new fields to that.
AS_WRITTEN = (
    "min_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "response_format",
    "grammar",
)
# What greedy answers do not depend on.
DRAWING = ("temperature", "top_p", "top_k", "min_p", "seed")
# What the digest has in the form in which the desk reads it.
READ_OUT = (
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
)
# How the answer is told, to whom, and under which name of the model.
OF_THE_TELLING = ("model", "stream", "stream_options", "user", "metadata")


def is_deterministic(request: ChatRequest) -> bool:
    """Whether the answer would be the same again: it is not drawn, or drawn by a seed of its own."""
    return request.sampling_temperature == 0 or request.seed is not None


def digest_of(request: ChatRequest, media: Sequence[bytes], *, endpoint: str, identity: str) -> bytes:
    """SHA-256 of all that decides the answer to a deterministic request.

    media: what tells the content of each of its media. identity: what tells the model and all that belongs to it.
    """
    facts = [VERSION, endpoint, identity, _conversation(request, media), _form(request), _drawing(request)]
    return hashlib.sha256(orjson.dumps(facts)).digest()


def _conversation(request: ChatRequest, media: Sequence[bytes]) -> list[Any]:
    shown = []
    for ref, content in zip(media_refs(request), media, strict=True):
        facts = asdict(ref)
        # Its content stands for its name, and errors are not kept.
        del facts["url"], facts["param"]
        shown.append([content.hex(), facts])
    return [template_messages(request), shown]


def _form(request: ChatRequest) -> list[Any]:
    # In the order of the sender: templates and grammars show the keys of a schema as they come.
    tools = [tool.model_dump() for tool in request.usable_tools]
    choice = request.model_dump(include={"tool_choice"}) if tools else None
    parallel = request.parallel_tool_calls is not False if tools else None
    written = {name: getattr(request, name) or None for name in AS_WRITTEN}
    return [tools, choice, parallel, request.max_answer_tokens, request.num_logprobs, written]


def _drawing(request: ChatRequest) -> list[Any]:
    if request.sampling_temperature == 0:
        return [request.num_choices]
    return [request.num_choices, *(getattr(request, name) for name in DRAWING)]
