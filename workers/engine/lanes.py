"""Who waits for a slot, and in which order: chat and bulk, each by priority and then by arrival."""

import heapq
from dataclasses import dataclass, field

from workers.engine.config import CHAT_PRIORITY
from workers.engine.protocol import Handle, Sequence


@dataclass(slots=True, eq=False)
class Run:
    """A sequence's way through the engine.

    row: the slot that it holds. num_launched: tokens asked of the model, drawn or in flight.
    parked: its row's memory, while that lies outside a slot.
    """

    sequence: Sequence
    arrival: int
    waiting_since: int
    row: int | None = None
    num_launched: int = 0
    num_parks: int = 0
    parked: Handle | None = None
    has_ended: bool = False

    @property
    def is_chat(self) -> bool:
        """Whether someone is listening."""
        return self.sequence.priority <= CHAT_PRIORITY

    @property
    def num_kv_tokens(self) -> int:
        """Positions that it may come to need."""
        return self.sequence.prompt.num_tokens + self.sequence.sampling.max_tokens

    @property
    def waits_for_its_token(self) -> bool:
        """Whether its next draw depends on one that is still in flight: a grammar has to see each token first."""
        return self.sequence.sampling.constraint is not None and self.num_launched > len(self.sequence.tokens)

    @property
    def is_launched_out(self) -> bool:
        """Whether all tokens that it may draw are drawn or in flight."""
        return self.num_launched >= self.sequence.sampling.max_tokens

    def __lt__(self, other: "Run") -> bool:
        return (self.sequence.priority, self.arrival) < (other.sequence.priority, other.arrival)


@dataclass(slots=True)
class Lane:
    """One heap of waiting runs. A run that ended while it waited is dropped when it comes up."""

    _heap: list[Run] = field(default_factory=list)
    _num_ended: int = 0

    def push(self, run: Run) -> None:
        """Let a run wait."""
        heapq.heappush(self._heap, run)

    def head(self) -> Run | None:
        """The next run, still in the lane."""
        while self._heap and self._heap[0].has_ended:
            heapq.heappop(self._heap)
            self._num_ended -= 1
        return self._heap[0] if self._heap else None

    def pop(self) -> Run:
        """Take the next run out."""
        run = self.head()
        if run is None:
            raise IndexError("nobody waits in this lane")
        return heapq.heappop(self._heap)

    def note_ended(self) -> None:
        """One of the waiting runs has ended."""
        self._num_ended += 1

    def __len__(self) -> int:
        return len(self._heap) - self._num_ended
