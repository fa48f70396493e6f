"""Old answers are cleared away by the io worker, and young ones stay."""

import time

from sqlalchemy import func, insert, select

from service.actions.forget_answers import forget_answers
from service.actions.parts import Parts
from service.store.tables import Answer
from workers.clerk import Clerk

DAY_SECONDS = 86400.0
WAIT_SECONDS = 20.0


def keep(parts: Parts, number: int, *, seconds_ago: float) -> None:
    rows = [
        {"tenant_id": "default", "digest": bytes([n]), "job_id": n, "created_at": time.time() - seconds_ago}
        for n in range(1, number + 1)
    ]
    with parts.database.transaction() as db:
        db.execute(insert(Answer), rows)


def num_kept(parts: Parts) -> int:
    with parts.database.reading() as db:
        return db.scalar(select(func.count()).select_from(Answer)) or 0


def test_all_that_is_old_goes_in_one_round_of_short_transactions(parts: Parts) -> None:
    keep(parts, 10, seconds_ago=DAY_SECONDS + 60)

    assert forget_answers(parts, at_once=3) == 10

    assert num_kept(parts) == 0


def test_what_is_young_stays(parts: Parts) -> None:
    keep(parts, 2, seconds_ago=DAY_SECONDS - 60)

    assert forget_answers(parts) == 0
    assert num_kept(parts) == 2


def test_the_io_worker_does_it_from_its_start_on(parts: Parts) -> None:
    keep(parts, 2, seconds_ago=DAY_SECONDS + 60)
    clerk = Clerk(parts)
    clerk.start()
    try:
        give_up = time.monotonic() + WAIT_SECONDS
        while num_kept(parts):
            assert time.monotonic() < give_up
            time.sleep(0.05)
    finally:
        clerk.stop()
