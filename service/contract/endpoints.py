"""The endpoints that a job can be for, and how the desk reads the request of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.contract.chat import ChatRequest, ignored_fields, parse_chat_request
from service.contract.replies import completion_body, told_in_choice
from service.contract.response_bodies import answered_body, told_in_response
from service.contract.responses import read_kept_request
from service.contract.streams import Delta
from service.errors import SluiceError

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
TOKENIZE = "/v1/tokenize"
DETOKENIZE = "/v1/detokenize"
TRANSCRIBE = "/v1/audio/transcriptions"
PREFLIGHT = "/v1/preflight"
# Those whose requests may stand on a manifest's lines.
BATCHED = (CHAT, RESPONSES)
# The desk answers these itself; the model computes nothing for them, and so nobody pays for their tokens.
WITHOUT_ENGINE = frozenset({TOKENIZE, DETOKENIZE, PREFLIGHT})


def _as_it_is(error: SluiceError) -> SluiceError:
    return error


@dataclass(frozen=True, slots=True)
class Asked:
    """A job's request. chat: the conversation that it asks to continue. ignored: its fields that have no effect.

    reply: makes the endpoint's body of the answers; it is called as `completion_body` is.
    in_own_words: an error about the chat, as one about the endpoint's own fields.
    """

    chat: ChatRequest
    ignored: tuple[str, ...] = ()
    reply: Callable[..., dict[str, Any]] = completion_body
    in_own_words: Callable[[SluiceError], SluiceError] = _as_it_is


def request_in(endpoint: str, raw: bytes) -> Asked:
    """Read a job's body. BadRequest names the field and the reason."""
    if endpoint == RESPONSES:
        wanted = read_kept_request(raw)
        ignored = tuple(ignored_fields(wanted))
        return Asked(wanted.chat, ignored, partial(answered_body, wanted), wanted.in_own_words)
    assert endpoint == CHAT, "no other endpoint makes jobs for the engine"
    chat = parse_chat_request(raw)
    return Asked(chat, tuple(ignored_fields(chat)))


def told_by(endpoint: str, reply: Mapping[str, Any]) -> list[Delta]:
    """Everything that a job's reply says, as pieces of a stream: one for each answer."""
    if endpoint == RESPONSES:
        return [told_in_response(reply)]
    return [told_in_choice(choice) for choice in reply["choices"]]
