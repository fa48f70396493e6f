"""Waiting for a batch, with one eye on what carries it."""

import time
from collections.abc import Callable

from service.errors import SluiceError, Unavailable
from sluice.client import Batch, Client, Json
from sluice.runs.views import View
from sluice.terminal import one_line

POLL_SECONDS = 0.25
CAPTION_SECONDS = 1.0
ANSWERS_PER_LOOK = 50


def follow(
    client: Client, batch_id: str, view: View, *, tend: Callable[[], None], patience_seconds: float
) -> Batch:
    """Show a batch until it has ended. tend: called several times a second.

    patience_seconds: how long the server may be away (it restarts, it is killed) before Unavailable is raised.
    """
    answers = Answers(client, batch_id)
    answered_at = asked_at = time.monotonic()
    caption: str | None = None
    while True:
        tend()
        now = time.monotonic()
        try:
            batch = client.batch(batch_id)
            answered_at = now
            if now - asked_at >= CAPTION_SECONDS:
                asked_at, caption = now, answers.newest()
        except Unavailable:
            if now - answered_at > patience_seconds:
                raise
            time.sleep(POLL_SECONDS)
            continue
        view.show(batch, caption)
        if batch.has_ended:
            return batch
        time.sleep(POLL_SECONDS)


class Answers:
    """Leafs through a batch's answers while they come, to show one now and then."""

    def __init__(self, client: Client, batch_id: str) -> None:
        self._client, self._batch_id = client, batch_id
        self._seen: str | None = None

    def newest(self) -> str | None:
        """An answer further down than the one before, in one line; None if there is none yet."""
        try:
            jobs = self._client.jobs(
                batch_id=self._batch_id, state="succeeded", after=self._seen, limit=ANSWERS_PER_LOOK
            )
        except SluiceError:
            return None
        if not jobs:
            return None
        self._seen = jobs[-1]["id"]
        return one_line(text_of(jobs[-1].get("response") or {}))


def text_of(completion: Json) -> str:
    """The words of a chat completion."""
    choices = completion.get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")
