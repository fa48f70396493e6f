"""The watchdog: an engine that has work and gets nowhere is told on, so that its process can be started again."""

import faulthandler
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.engine.engine import Engine
from workers.engine.protocol import StepPlan

log = logging.getLogger(__name__)

LOOKS_PER_PATIENCE = 10
LONGEST_TICK_SECONDS = 5.0
# Telling the database may hang as well; then the process ends without.
LAST_WORDS_SECONDS = 15.0
# The descriptor: Celery puts an object without one in the place of `sys.stderr`.
STANDARD_ERROR = 2


@dataclass(slots=True, eq=False)
class Pulse:
    """What the stepping thread leaves behind at every step of one engine, for the watchdog to read.

    num_moves: steps that brought something, a token or an end. seconds_per_token: what a prompt token may take on the
    slowest device that we know, on top of the watchdog's patience.
    """

    engine: Engine
    name: str
    seconds_per_token: float = 0.0
    num_begun: int = 0
    num_ended: int = 0
    num_moves: int = 0

    @property
    def is_stepping(self) -> bool:
        """Whether the engine is inside a step."""
        return self.num_begun > self.num_ended

    def begin(self) -> None:
        """A step begins."""
        self.num_begun += 1

    def end(self, *, moved: bool) -> None:
        """The step has ended. moved: it brought something."""
        self.num_ended += 1
        self.num_moves += moved


@dataclass(slots=True)
class _Silence:
    """How long an engine that has work was given time and brought nothing."""

    pulse: Pulse
    num_begun: int = 0
    num_moves: int = 0
    seconds: float = 0.0

    def listen(self, seconds: float) -> None:
        """Look at the pulse once more, `seconds` after the last time."""
        pulse = self.pulse
        was_given_time = pulse.is_stepping or pulse.num_begun != self.num_begun
        if pulse.num_moves != self.num_moves or not pulse.engine.has_work:
            self.seconds = 0.0
        elif was_given_time:
            self.seconds += seconds
        self.num_begun, self.num_moves = pulse.num_begun, pulse.num_moves


class Watchdog:
    """A thread that looks at the pulses. Patience is counted in its own looks: a stopped process is not a stuck one.

    on_stuck: gets a sentence, and does not return. seconds: 0 turns the watchdog off.
    """

    def __init__(self, pulses: Sequence[Pulse], seconds: float, on_stuck: Callable[[str], None]) -> None:
        self._silences = [_Silence(pulse) for pulse in pulses]
        self._seconds = seconds
        self._on_stuck = on_stuck
        self._tick_seconds = min(LONGEST_TICK_SECONDS, seconds / LOOKS_PER_PATIENCE)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        if self._seconds > 0:
            self._arm()
            self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        while not self._closed.wait(self._tick_seconds):
            self._arm()
            for silence in self._silences:
                silence.listen(self._tick_seconds)
                if silence.seconds > self._patience(silence.pulse):
                    self._tell(silence)
                    return

    def _arm(self) -> None:
        """Should native code keep the interpreter's lock, no thread of Python can run, but one in C can."""
        faulthandler.dump_traceback_later(2 * self._seconds, exit=True, file=STANDARD_ERROR)

    def _patience(self, pulse: Pulse) -> float:
        """A large prompt may take minutes on a processor, and is no hang."""
        num_tokens = sum(prefill.prompt.num_tokens for prefill in pulse.engine.plan.prefill)
        return self._seconds + pulse.seconds_per_token * num_tokens

    def _tell(self, silence: _Silence) -> None:
        engine = silence.pulse.engine
        where = "in a step" if silence.pulse.is_stepping else "step after step"
        sentence = f"The engine of {silence.pulse.name} made no progress for {silence.seconds:.0f} s."
        log.critical(
            "%s It is stuck %s: %s; %d sequences hold slots, %d wait.\n%s",
            sentence,
            where,
            describe(engine.plan),
            engine.num_running,
            engine.num_waiting,
            stacks(),
        )
        faulthandler.dump_traceback_later(LAST_WORDS_SECONDS, exit=True, file=STANDARD_ERROR)
        self._on_stuck(sentence)


def describe(plan: StepPlan) -> str:
    """A step in words: how many rows and tokens, and which."""
    prompts = ", ".join(f"row {p.row}: {p.prompt.num_tokens} tokens" for p in plan.prefill)
    parts = (
        f"frees {len(plan.free)} rows",
        f"parks {len(plan.park)}",
        f"restores {len(plan.restore)}",
        f"takes in {len(plan.prefill)} prompts ({prompts or 'none'})",
        f"decodes {len(plan.decode)} rows {sorted(plan.decode)}",
    )
    return ", ".join(parts)


def stacks() -> str:
    """Where every thread is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told = []
    for ident, frame in sys._current_frames().items():
        told.append(f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(told)
