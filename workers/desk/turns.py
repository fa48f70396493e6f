"""Whose engine is stepped next, where several models share one thread."""

from collections.abc import Collection, Sequence

from workers.desk.served import Served

# Half of the time is shared evenly by the engines that have work, half by how much they have: much work gets more
# time, and little work never waits long.
EVEN_SHARE = 0.5


class Turns:
    """The engine that has had the least time for its share goes next. One without work is not even asked twice."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = tuple(served)
        self._busy: list[Served] = []

    def next(self) -> Served | None:
        """The engine to step, or None if none has work."""
        busy = [served for served in self._served if served.engine.has_work]
        if len(busy) > 1:
            self._let_in(busy)
        self._busy = busy
        return min(busy, key=lambda served: served.num_seconds, default=None)

    def note(self, stepped: Served, seconds: float) -> None:
        """The engine was stepped for so long."""
        if len(self._busy) > 1:
            seconds /= share(stepped, self._busy)
        stepped.num_seconds += seconds

    def _let_in(self, busy: Collection[Served]) -> None:
        """Who has rested joins where the others are: rest is no credit against them."""
        others = [served.num_seconds for served in busy if served in self._busy]
        floor = min(others, default=0.0)
        for served in busy:
            if served not in self._busy:
                served.num_seconds = floor if others else 0.0


def share(one: Served, busy: Collection[Served]) -> float:
    """Which part of the thread's time is its own."""
    num_all = sum(served.num_in_hand for served in busy)
    by_work = one.num_in_hand / num_all if num_all else 1 / len(busy)
    return EVEN_SHARE / len(busy) + (1 - EVEN_SHARE) * by_work
