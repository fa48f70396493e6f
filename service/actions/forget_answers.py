"""Forget the answers that are too old to be given again."""

import time

from service.actions.parts import Parts
from service.store import answers

# Of one round; what is left is the next round's.
FORGET_SECONDS = 2.0


def forget_answers(parts: Parts, *, at_once: int = answers.FORGET_CHUNK) -> int:
    """One round, in transactions of `at_once`; any process may run it at any time. Returns how many were forgotten."""
    until, forgotten = time.monotonic() + FORGET_SECONDS, 0
    while time.monotonic() < until:
        with parts.database.transaction() as db:
            number = answers.forget_old(db, parts.settings.answer_cache_seconds, at_once)
        forgotten += number
        if number < at_once:
            break
    return forgotten
