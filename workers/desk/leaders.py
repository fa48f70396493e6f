"""Of equal requests that are in hand at once, one leads and is computed; the others wait for its answer."""

import threading
from dataclasses import dataclass, field

from workers.desk.seats import Seat


@dataclass(slots=True, eq=False)
class _Led:
    leader: Seat
    followers: list[Seat] = field(default_factory=list)


class Leaders:
    """Who computes what, by tenant and digest. Safe to use from every thread, and holds none of them up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._led: dict[tuple[str, bytes | None], _Led] = {}

    def join(self, seat: Seat) -> bool:
        """Whether the seat is to go on; if not, it waits now until another one's answer is there."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is None:
                # One that was dropped meanwhile must not lead: nobody would tell those who follow.
                if not (seat.ended or seat.cancelled):
                    self._led[_key(seat)] = _Led(seat)
                return True
            if seat.cancelled or led.leader is seat or led.leader.ended or not _may_wait(seat, led.leader):
                return True
            led.followers.append(seat)
            return False

    def leave(self, seat: Seat) -> list[Seat]:
        """Those who waited for this seat; it leads no more."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is None or led.leader is not seat:
                return []
            del self._led[_key(seat)]
            return led.followers

    def hand_on(self, seat: Seat) -> Seat | None:
        """The follower that leads from now on in the place of this seat, which has no answer to give."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is None:
                return None
            led.followers = [follower for follower in led.followers if follower is not seat]
            if led.leader is not seat:
                return None
            if not led.followers:
                del self._led[_key(seat)]
                return None
            # A chat if there is one, since chats do not wait for bulk.
            led.leader = next((each for each in led.followers if each.is_chat), led.followers[0])
            led.followers = [follower for follower in led.followers if follower is not led.leader]
            return led.leader

    def stop_waiting(self, seat: Seat) -> bool:
        """Whether the seat waited, which it does no more."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is None or not any(follower is seat for follower in led.followers):
                return False
            led.followers = [follower for follower in led.followers if follower is not seat]
            return True


def _key(seat: Seat) -> tuple[str, bytes | None]:
    return seat.job.tenant_id, seat.digest


def _may_wait(seat: Seat, leader: Seat) -> bool:
    """A chat does not wait for bulk, and a stream for nobody: its listener wants the first words."""
    return leader.is_chat and not seat.job.streams if seat.is_chat else True
