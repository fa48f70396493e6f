"""A batch's results while it runs: a page of them, or all of them as they come."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from service.actions.parts import Parts
from service.actions.read_batches import unknown_batch
from service.contract.callers import Caller
from service.contract.ids import is_batch_id
from service.contract.result_cursors import ResultCursor
from service.errors import Unavailable
from service.store import batches, result_feed
from service.store.result_feed import Frontier, Told

log = logging.getLogger(__name__)

# Bodies in memory at a time.
CHUNK_JOBS = 200
MOST_AT_ONCE = 100_000
_FIRST_LOOK_SECONDS, _SLOWEST_LOOK_SECONDS = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class ResultPage:
    """cursor: asks for what comes after the page. is_complete: nothing will ever come after it.

    chunks: the page's lines, read as they are asked for.
    """

    cursor: str
    is_complete: bool
    chunks: Iterator[list[Told]]


def read_results(
    parts: Parts, caller: Caller, batch_id: str, *, cursor: str | None = None, limit: int = 1000
) -> ResultPage:
    """What has ended after `cursor`, up to `limit` lines, in the order of commits."""
    start = ResultCursor.parse(cursor)
    _check_is_his(parts, caller, batch_id)
    end = _frontier(parts, batch_id, start, limit)
    return ResultPage(str(end.cursor), end.is_complete, _chunks(parts, batch_id, start, end.cursor))


def follow_results(
    parts: Parts, caller: Caller, batch_id: str, *, cursor: str | None = None
) -> Iterator[list[Told]]:
    """Every line after `cursor` as it ends, until all have been told. An empty list: a quiet moment.

    Holds no connection between the lists. Errors are raised at once, before the first list is asked for.
    """
    start = ResultCursor.parse(cursor)
    _check_is_his(parts, caller, batch_id)
    return _follow(parts, batch_id, start)


def _follow(parts: Parts, batch_id: str, here: ResultCursor) -> Iterator[list[Told]]:
    pause = _FIRST_LOOK_SECONDS
    while True:
        try:
            end = _frontier(parts, batch_id, here, MOST_AT_ONCE)
            for told in _chunks(parts, batch_id, here, end.cursor):
                here, pause = told[-1].cursor, _FIRST_LOOK_SECONDS
                yield told
            if end.is_complete:
                return
        except Unavailable:
            log.warning("the database is away; whoever follows %s waits", batch_id)
        yield []
        time.sleep(pause)
        pause = min(_SLOWEST_LOOK_SECONDS, pause * 1.5)


def _chunks(parts: Parts, batch_id: str, here: ResultCursor, end: ResultCursor) -> Iterator[list[Told]]:
    while True:
        with parts.database.reading() as db:
            told = result_feed.read(db, batch_id, here, end, limit=CHUNK_JOBS)
        if not told:
            return
        here = told[-1].cursor
        yield told


def _frontier(parts: Parts, batch_id: str, start: ResultCursor, limit: int) -> Frontier:
    with parts.database.reading() as db:
        return result_feed.frontier(db, batch_id, start, limit=limit)


def _check_is_his(parts: Parts, caller: Caller, batch_id: str) -> None:
    if not is_batch_id(batch_id):
        raise unknown_batch()
    with parts.database.reading() as db:
        if batches.get(db, caller.tenant_id, batch_id) is None:
            raise unknown_batch()
