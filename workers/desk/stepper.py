"""The thread that steps the engine."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from service.contract.jobs import Outcome
from workers.desk.publisher import Publisher
from workers.desk.replier import Replier
from workers.desk.seats import Seat
from workers.desk.watchdog import Pulse
from workers.engine.engine import Engine
from workers.engine.protocol import Sequence

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5


class Stepper:
    """Owns the engine: every call to it is made from this thread."""

    def __init__(
        self,
        engine: Engine,
        publisher: Publisher,
        provenance: dict[str, Any],
        on_outcome: Callable[[Seat, Outcome], None],
        on_crash: Callable[[str], None],
        note_token: Callable[[Seat], object] = Seat.note_token,
        pulse: Pulse | None = None,
    ) -> None:
        self._engine = engine
        self._pulse = pulse or Pulse(engine, "the model")
        self._replier = Replier(publisher, provenance, on_outcome, self.cancel, note_token)
        self._on_crash = on_crash
        self._inbox: deque[Sequence | int] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin stepping."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the step that runs now."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=10)

    @property
    def is_alive(self) -> bool:
        """Whether the engine thread runs."""
        return self._thread.is_alive()

    def submit(self, sequence: Sequence) -> None:
        """Queue one answer of a prepared request; `sequence.tag` is the `Answer`."""
        self._inbox.append(sequence)
        self._wake.set()

    def cancel(self, sequence_id: int) -> None:
        """Ask for a sequence to be ended; it then ends as cancelled."""
        self._inbox.append(sequence_id)
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        except BaseException:
            # What a bad row may do is caught inside the model. This is a bug or a broken device: every job in hand
            # is a suspect now, and only a fresh process can go on.
            log.critical("the engine stopped", exc_info=True)
            self._on_crash("The engine stopped; its log says why.")

    def _turn(self) -> None:
        self._take_inbox()
        if not self._engine.has_work:
            self._wake.wait(IDLE_SECONDS)
            self._wake.clear()
            return
        self._pulse.begin()
        events = self._engine.step()
        self._pulse.end(moved=bool(events))
        for event in events:
            self._replier.absorb(event)

    def _take_inbox(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Sequence):
                self._engine.submit(item)
            else:
                self._engine.cancel(item)
