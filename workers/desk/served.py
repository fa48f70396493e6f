"""A model that the desk serves: its engine, and what a job goes through before and after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.desk.watchdog import Pulse
from workers.engine.engine import Engine

if TYPE_CHECKING:
    from workers.desk.prepare import Preparer
    from workers.desk.reuse import Reuse


@dataclass(slots=True, eq=False)
class Served:
    """One model. provenance goes into every result. num_seconds: of the stepping thread, see `Turns`."""

    pulse: Pulse
    num_slots: int
    preparer: "Preparer"
    provenance: Mapping[str, Any]
    num_seconds: float = 0.0

    @property
    def name(self) -> str:
        """The name that its jobs ask for."""
        return self.pulse.name

    @property
    def reuse(self) -> "Reuse":
        """What its requests may be given again."""
        return self.preparer.reuse

    @property
    def engine(self) -> Engine:
        """Who runs its sequences."""
        return self.pulse.engine

    @property
    def num_in_hand(self) -> int:
        """Sequences that run in its engine or wait there."""
        return self.engine.num_running + self.engine.num_waiting
