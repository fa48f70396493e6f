"""The batches that somebody watches in this process. All who watch one share the looks at it."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from service.actions.wire import batch_object
from service.contract.batches import BatchObject
from service.contract.progress_events import ProgressEvent, progress_event
from service.store import batches, progress
from service.store.database import Database

LOOK_SECONDS = 0.5
WINDOW_SECONDS = 15.0


class Watch:
    """The looks at one batch. Whoever asks first after `LOOK_SECONDS` looks; the others get what was seen."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database = database
        self._batch_id = batch_id
        self._lock = threading.Lock()
        self._looks: deque[tuple[float, BatchObject]] = deque()
        self._seen: ProgressEvent | None = None
        self.num_watchers = 0

    def now(self) -> ProgressEvent:
        """How far the batch is, as of half a second ago at most."""
        with self._lock:
            moment = time.monotonic()
            if self._seen is None or moment - self._looks[-1][0] >= LOOK_SECONDS:
                self._look(moment)
            assert self._seen is not None
            return self._seen

    def _look(self, moment: float) -> None:
        with self._database.reading() as db:
            row = batches.find(db, self._batch_id)
            assert row is not None
            seen = batch_object(row, progress.of(db, self._batch_id))
        self._looks.append((moment, seen))
        while moment - self._looks[0][0] > WINDOW_SECONDS:
            self._looks.popleft()
        began, before = self._looks[0]
        is_moving = row.ingested_at is not None and row.paused_at is None
        self._seen = progress_event(seen, before, moment - began, is_moving=is_moving)


class Watches:
    """The batches that somebody watches in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}

    @contextmanager
    def joined(self, batch_id: str) -> Iterator[Watch]:
        """The one watch of a batch, which ends with its last watcher."""
        with self._lock:
            watch = self._watches.setdefault(batch_id, Watch(self._database, batch_id))
            watch.num_watchers += 1
        try:
            yield watch
        finally:
            with self._lock:
                watch.num_watchers -= 1
                if not watch.num_watchers:
                    del self._watches[batch_id]
