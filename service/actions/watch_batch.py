"""Watch a batch until it has ended."""

import logging
import time
from collections.abc import Iterator

from service.actions.parts import Parts
from service.actions.read_batches import get_batch
from service.actions.watches import LOOK_SECONDS, Watch, Watches
from service.contract.callers import Caller
from service.contract.progress_events import ProgressEvent
from service.errors import Unavailable

log = logging.getLogger(__name__)

EVENT_SECONDS = 1.0


def watch_batch(parts: Parts, caller: Caller, batch_id: str) -> Iterator[ProgressEvent | None]:
    """Its progress as it moves, at most once a second but at once where its status changes; None: a quiet moment.

    The last event is of the ended batch. Errors are raised at once, before the first event is asked for.
    """
    get_batch(parts, caller, batch_id)
    return _events(parts.watches, batch_id)


def _events(watches: Watches, batch_id: str) -> Iterator[ProgressEvent | None]:
    told: ProgressEvent | None = None
    told_at, pause = 0.0, LOOK_SECONDS
    with watches.joined(batch_id) as watch:
        while told is None or not told.has_ended:
            seen = _look(watch)
            if seen is None or not _is_news(seen, told, time.monotonic() - told_at):
                yield None
                time.sleep(pause)
                pause = min(EVENT_SECONDS, pause * 1.2)
                continue
            told, told_at, pause = seen, time.monotonic(), LOOK_SECONDS
            yield seen


def _look(watch: Watch) -> ProgressEvent | None:
    try:
        return watch.now()
    except Unavailable:
        log.warning("the database is away; whoever watches a batch waits")
        return None


def _is_news(seen: ProgressEvent, told: ProgressEvent | None, seconds: float) -> bool:
    if told is None or seen.status != told.status:
        return True
    return seen != told and seconds >= EVENT_SECONDS
