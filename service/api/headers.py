"""Headers that mean something: Hugging Face's and Stripe's going in, the names of ignored fields coming out."""

import re
from collections.abc import Sequence

from flask import Response
from pydantic import Field

from service.actions.follow_chat import ChatEvent, Quiet, Replied
from service.actions.start_chat import StartedChat
from service.api.described import Described

IGNORED = "x-sluice-ignored"
CACHE = "x-sluice-cache"
PRINTABLE = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class ChatHeaders(Described):
    """x-wait-for-model: wait for a worker that still loads its model, instead of a 503.

    x-use-cache: whether an answer that an equal request has had will do, where a new one would be the same.
    """

    wait_for_model: bool = Field(default=False, alias="x-wait-for-model")
    use_cache: bool = Field(default=True, alias="x-use-cache")


class IdempotencyHeader(Described):
    """Idempotency-Key: the same key with the same body gives the same object again."""

    idempotency_key: str | None = Field(default=None, alias="Idempotency-Key", min_length=1, max_length=255)


def tell_cache(response: Response, chat: StartedChat, event: ChatEvent) -> None:
    """Say whether the answer was given before. event: the first that is known of it; a quiet one tells nothing."""
    if not chat.may_reuse:
        response.headers[CACHE] = "bypass"
    elif not isinstance(event, Quiet):
        is_hit = isinstance(event, Replied) and event.is_reused
        response.headers[CACHE] = "hit" if is_hit else "miss"


class CompletionHeaders(ChatHeaders, IdempotencyHeader):
    """As a chat's; and the same Idempotency-Key with the same body gives the same reply again."""


def name_ignored(response: Response, fields: Sequence[str]) -> None:
    """Tell the caller which of its fields had no effect. Their names are a stranger's, so only plain ones are said."""
    if fields:
        response.headers[IGNORED] = ", ".join(name if PRINTABLE.fullmatch(name) else "?" for name in fields)
