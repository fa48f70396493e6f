"""The thread that steps the engine, and what its events mean for the seats."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from service.contract.jobs import Cancelled, Failed, Outcome, Succeeded
from service.contract.replies import FinishReason, completion_body
from service.contract.streams import Delta
from service.errors import ContextTooLong, ModelFailed, OutOfMemory, SluiceError
from workers.desk.publisher import Publisher
from workers.desk.seats import Seat
from workers.desk.watchdog import Pulse
from workers.engine.engine import Engine
from workers.engine.protocol import Broken, EngineEvent, Finished, Progress, Sequence

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
ERROR_OF_CODE: dict[str, type[SluiceError]] = {
    "context_length_exceeded": ContextTooLong,
    "out_of_memory": OutOfMemory,
}


class Stepper:
    """Owns the engine: every call to it is made from this thread."""

    def __init__(
        self,
        engine: Engine,
        publisher: Publisher,
        provenance: dict[str, Any],
        on_outcome: Callable[[Seat, Outcome], None],
        on_crash: Callable[[str], None],
        pulse: Pulse | None = None,
    ) -> None:
        self._engine = engine
        self._pulse = pulse or Pulse(engine, "the model")
        self._publisher = publisher
        self._provenance = provenance
        self._on_outcome = on_outcome
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
        """Queue a prepared request; `sequence.tag` is its seat."""
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
            self._absorb(event)

    def _take_inbox(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Sequence):
                self._engine.submit(item)
            else:
                self._engine.cancel(item)

    def _absorb(self, event: EngineEvent) -> None:
        seat = event.sequence.tag
        assert isinstance(seat, Seat)
        if seat.ended:  # a stop string ended it while the engine still drew a token
            return
        match event:
            case Progress(sequence, tokens):
                self._extend(seat, sequence, tokens)
            case Finished(_, "cancelled"):
                self._on_outcome(seat, Cancelled(seat.job))
            case Finished(_, reason):
                self._emit(seat, seat.finish_text())
                self._on_outcome(seat, self._succeeded(seat, "length" if reason == "length" else "stop"))
            case Broken(_, code, message):
                error = ERROR_OF_CODE.get(code, ModelFailed)(message, code=code)
                self._on_outcome(seat, Failed(seat.job, error))

    def _extend(self, seat: Seat, sequence: Sequence, tokens: tuple[int, ...]) -> None:
        text, stopped = seat.take_tokens(tokens)
        self._emit(seat, text)
        if stopped:
            self._engine.cancel(sequence.id)
            self._on_outcome(seat, self._succeeded(seat, "stop"))

    def _emit(self, seat: Seat, text: str) -> None:
        if text:
            seat.text.append(text)
            if seat.job.streams:
                self._publisher.say(seat.job, Delta(text))

    def _succeeded(self, seat: Seat, reason: FinishReason) -> Succeeded:
        usage = seat.usage()
        body = completion_body(
            job_id=seat.job.id,
            created=int(time.time()),
            model=seat.job.model,
            text="".join(seat.text),
            finish_reason=reason,
            usage=usage,
        )
        return Succeeded(seat.job, body, usage, self._provenance | {"attempt": seat.job.attempt})
