"""The thread that steps the engines."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Ordered

from service.contract.jobs import Outcome
from workers.desk.approach import Approach
from workers.desk.publisher import Publisher
from workers.desk.replier import Replier
from workers.desk.seats import Seat
from workers.desk.served import Served
from workers.desk.turns import Turns
from workers.engine.protocol import Sequence

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
REST_SECONDS = 0.003


class Stepper:
    """Owns the engines, one for each model: all calls to them are made from this thread, which steps them in turn."""

    def __init__(
        self,
        served: Ordered[Served],
        publisher: Publisher,
        on_outcome: Callable[[Seat, Outcome], None],
        on_crash: Callable[[str], None],
        note_token: Callable[[Seat], object] = Seat.note_token,
        approach: Approach | None = None,
    ) -> None:
        self._served = {each.name: each for each in served}
        self._turns = Turns(served)
        self._repliers = {
            each.name: Replier(publisher, on_outcome, self.cancel, note_token) for each in served
        }
        self._on_crash = on_crash
        self._approach = approach or Approach()
        self._inbox: deque[tuple[str, Sequence] | int] = deque()
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

    def submit(self, model: str, sequence: Sequence) -> None:
        """Queue one answer of a prepared request; `sequence.tag` is the `Answer`."""
        self._inbox.append((model, sequence))
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
        served = self._turns.next()
        rests = self._approach.rests()
        if served is None or rests:
            self._wake.wait(REST_SECONDS if rests else IDLE_SECONDS)
            self._wake.clear()
            return
        began = time.perf_counter()
        served.pulse.begin()
        events = served.engine.step()
        served.pulse.end(moved=bool(events))
        served.engine.share(time.perf_counter() - began)
        replier = self._repliers[served.name]
        for event in events:
            replier.absorb(event)
        self._turns.note(served, time.perf_counter() - began)

    def _take_inbox(self) -> None:
        while self._inbox:
            match self._inbox.popleft():
                case int(number):
                    # Numbers are of one count for all models; whoever does not know this one does nothing.
                    for served in self._served.values():
                        served.engine.cancel(number)
                case (model, sequence):
                    self._served[model].engine.submit(sequence)
