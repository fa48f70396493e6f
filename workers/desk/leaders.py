"""Of equal requests that are in hand at once, one leads and is computed; the others wait for its answer."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.contract.jobs import Usage
from workers.desk.seats import Seat


@dataclass(frozen=True, slots=True)
class Given:
    """An answer to give again, as it was given first. provenance: what a reply that is not computed says of it."""

    body: Mapping[str, Any]
    usage: Usage
    provenance: Mapping[str, Any]


class Waiting:
    """Said of a seat that waits for another one's answer."""


@dataclass(slots=True, eq=False)
class _Led:
    """answer: of a leader that has one, until it is recorded: from then on SQL knows it."""

    leader: Seat
    followers: list[Seat] = field(default_factory=list)
    answer: Given | None = None


class Leaders:
    """Who computes what, by tenant and digest. Safe to use from every thread, and holds none of them up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._led: dict[tuple[str, bytes | None], _Led] = {}

    def join(self, seat: Seat) -> Given | Waiting | None:
        """An answer for the seat, or word that it waits for one from now on; None: it is to go on."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is None:
                # One that was dropped meanwhile must not lead: nobody would tell those who follow.
                if not (seat.ended or seat.cancelled):
                    self._led[_key(seat)] = _Led(seat)
                return None
            if led.answer is not None:
                return led.answer
            if seat.cancelled or led.leader is seat or not _may_wait(seat, led.leader):
                return None
            led.followers.append(seat)
            return Waiting()

    def answer(self, seat: Seat, answer: Given) -> list[Seat]:
        """Those who have waited for this answer of the seat."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is None or led.leader is not seat:
                return []
            followers, led.followers, led.answer = led.followers, [], answer
            return followers

    def forget(self, seat: Seat) -> None:
        """Its answer is recorded, or never will be."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is not None and led.leader is seat:
                del self._led[_key(seat)]

    def hand_on(self, seat: Seat) -> Seat | None:
        """The follower that leads from now on in the place of this seat, which has no answer to give."""
        with self._lock:
            led = self._led.get(_key(seat))
            if led is None:
                return None
            led.followers = [follower for follower in led.followers if follower is not seat]
            if led.leader is not seat or led.answer is not None:
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
