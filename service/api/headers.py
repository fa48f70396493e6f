"""Headers that mean something: Hugging Face's and Stripe's going in, the names of ignored fields coming out."""

import re
from collections.abc import Sequence

from flask import Response
from pydantic import BaseModel, Field

IGNORED = "x-sluice-ignored"
PRINTABLE = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class ChatHeaders(BaseModel):
    """x-wait-for-model: wait for a worker that still loads its model, instead of a 503."""

    wait_for_model: bool = Field(default=False, alias="x-wait-for-model")


class IdempotencyHeader(BaseModel):
    """Idempotency-Key: the same key with the same body gives the same object again."""

    idempotency_key: str | None = Field(default=None, alias="Idempotency-Key", min_length=1, max_length=255)


def name_ignored(response: Response, fields: Sequence[str]) -> None:
    """Tell the caller which of its fields had no effect. Their names are a stranger's, so only plain ones are said."""
    if fields:
        response.headers[IGNORED] = ", ".join(name if PRINTABLE.fullmatch(name) else "?" for name in fields)
