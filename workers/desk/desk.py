"""The desk: claims no more than it can seat, prepares ahead of the device, and sees every job to its record."""

import logging
import random
import threading
import time
from collections.abc import Sequence as Ordered
from functools import partial

from service.actions.parts import Parts
from service.contract.endpoints import WITHOUT_ENGINE
from service.contract.jobs import Cancelled, ClaimedJob, Failed, Outcome, Succeeded, WorkerId
from service.contract.lifecycle import JobClass
from service.errors import ModelFailed, SluiceError
from service.store import jobs
from workers.away import DATABASE_AWAY, reason
from workers.desk.approach import Approach
from workers.desk.hands import Hands
from workers.desk.leaders import Waiting
from workers.desk.provenance import with_provenance
from workers.desk.recorder import Recorder
from workers.desk.seats import Seat, Seats
from workers.desk.served import Served
from workers.desk.stepper import Stepper

log = logging.getLogger(__name__)

LISTENER_GRACE_SECONDS = 5.0
# A claim that is under way when the drain begins: its jobs must have their seats first.
CLAIM_SECONDS = 5.0


class Desk:
    """Where claimed jobs are handled.

    Bulk jobs in hand are at most twice a model's slots, so that the next ones are ready when a slot frees; chats have
    as many seats again, so that bulk never keeps them waiting at the door. Each model has its own seats.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        served: Ordered[Served],
        stepper: Stepper,
        recorder: Recorder,
        seats: Seats,
        approach: Approach,
    ) -> None:
        self._parts = parts
        self._served = {each.name: each for each in served}
        self._stepper = stepper
        self._recorder = recorder
        self._seats = seats
        self._approach = approach
        self._bell = threading.Event()
        self._draining = threading.Event()
        self._owner: WorkerId = ""
        self._may_own_more = False
        # Most of the time they wait for a decoder or a preparer.
        settings = parts.settings
        self._hands = Hands(settings.num_decoders + settings.num_preparers, self._may_prepare_bulk)
        seats.on_room(self._hands.nudge)
        seats.on_left(lambda seat: self._served[seat.job.model].reuse.forget(seat))
        for each in served:
            each.reuse.on_resume(self._submit)
        self._thread = threading.Thread(target=self._run, name="claimer", daemon=True)

    def start(self, owner: WorkerId) -> None:
        """Begin claiming as `owner`."""
        self._owner = owner
        self._hands.start()
        self._thread.start()

    def ring(self) -> None:
        """Somebody says that there is work."""
        self._approach.ring()
        self._bell.set()

    def settle(self, seat: Seat, outcome: Outcome) -> None:
        """A seat's job has its outcome, the first one counting; the seat is free once that is recorded."""
        if seat.ended:
            return
        seat.ended = True
        served = self._served[seat.job.model]
        # First who follows: once the outcome is recorded, nobody asks for those who waited for it.
        followers = served.reuse.followers_of(seat, outcome)
        self._recorder.record(with_provenance(outcome, seat, served.provenance))
        for follower, same in followers:
            self.settle(follower, same)
        if seat.is_chat or self._bulk_room(served):
            self._bell.set()

    def cancel(self, job_ids: set[int]) -> None:
        """End these jobs, wherever they are on their way."""
        for seat in self._seats.all():
            if seat.job.id in job_ids and not seat.cancelled:
                seat.cancelled = True
                self._stop_answers(seat)
                if self._served[seat.job.model].reuse.stop_waiting(seat):
                    self.settle(seat, Cancelled(seat.job))

    def drop_unheard(self) -> None:
        """Cancel chats whose client has gone. A young one is left alone: its listener may not have sat down yet."""
        gone = {
            seat.job.id
            for seat in self._seats.all()
            if seat.is_chat
            and time.monotonic() - seat.claimed_at > LISTENER_GRACE_SECONDS
            and not self._parts.streams.is_alive(seat.job.id)
        }
        self.cancel(gone)

    def change_owner(self, owner: WorkerId) -> None:
        """Our lease ran out: what we hold belongs to others now. Drop it and go on under a new name.

        Outcomes that are still on their way carry the old owner and are refused by the fence.
        """
        self._owner = owner
        for seat in self._seats.all():
            self._drop(seat)

    def drain(self, seconds: float) -> None:
        """Claim no more, finish what runs for up to `seconds`, then give the rest back without a burnt attempt."""
        self._draining.set()
        self._bell.set()
        self._thread.join(timeout=CLAIM_SECONDS)
        self._hands.close()
        self._release([seat for seat in self._seats.all() if seat.counts is None and not seat.ended])
        if not self._seats.wait_empty(seconds):
            self._release([seat for seat in self._seats.all() if not seat.ended])

    def _release(self, seats: list[Seat]) -> None:
        for seat in seats:
            self._drop(seat)
        if not seats:
            return
        try:
            with self._parts.database.transaction() as db:
                jobs.release(db, [seat.job for seat in seats], self._owner)
        except DATABASE_AWAY as exception:
            log.warning("%d jobs are left to the reaper (%s)", len(seats), reason(exception))

    def _drop(self, seat: Seat) -> None:
        """Forget a job without an outcome."""
        seat.ended = seat.cancelled = True
        self._stop_answers(seat)
        self._served[seat.job.model].reuse.withdraw(seat)
        self._seats.leave(seat.job)

    def _run(self) -> None:
        while not self._draining.is_set():
            self._bell.clear()
            if not self._guarded_round():
                self._bell.wait(self._parts.settings.poll_seconds * random.uniform(0.8, 1.2))

    def _guarded_round(self) -> int:
        try:
            self._settle_accounts()
            return self._claim_round()
        except DATABASE_AWAY as exception:
            log.warning("the database is away (%s); trying again", reason(exception))
        except Exception:
            log.exception("claiming failed; trying again")
        self._may_own_more = True
        return 0

    def _settle_accounts(self) -> None:
        """After a claim that broke off, its rows may be ours without our knowing: hand them back."""
        if self._may_own_more:
            held = {seat.job.id for seat in self._seats.all()}
            with self._parts.database.transaction() as db:
                jobs.release_all_but(db, self._owner, held)
            self._may_own_more = False

    def _claim_round(self) -> int:
        claimed = self._claim()
        if not self._bell.is_set():
            self._approach.look()
        for job in claimed:
            seat = self._seats.take(job)
            if seat.is_chat and job.endpoint not in WITHOUT_ENGINE:
                self._approach.enter(job.id)
            self._submit(seat)
        return len(claimed)

    def _submit(self, seat: Seat) -> None:
        self._hands.submit(partial(self._prepare, seat), is_chat=seat.is_chat)

    def _bulk_room(self, served: Served) -> int:
        """How many bulk jobs to claim now. A claim costs nearly the same for one row as for many: none for a few."""
        room = 2 * served.num_slots - self._seats.num_of(served.name, chat=False)
        return room if room >= max(1, served.num_slots // 2) else 0

    def _room(self, served: Served) -> tuple[JobClass | None, int]:
        """What to claim for a model: chats as long as they find seats, and bulk where a handful of it does."""
        if room := self._bulk_room(served):
            return None, room
        return JobClass.CHAT, served.num_slots - self._seats.num_of(served.name, chat=True)

    def _claim(self) -> list[ClaimedJob]:
        rooms = [(name, *self._room(served)) for name, served in self._served.items()]
        rooms = [(name, kind, room) for name, kind, room in rooms if room > 0]
        if not rooms:
            return []
        claimed: list[ClaimedJob] = []
        with self._parts.database.transaction() as db:
            for name, kind, room in rooms:
                claimed += jobs.claim(db, models=[name], owner=self._owner, limit=room, job_class=kind)
            # From here on a crash may be these jobs' doing, and the store must know before we touch them.
            ours = jobs.begin(db, claimed, self._owner) if claimed else set()
        return [job for job in claimed if job.id in ours]

    def _may_prepare_bulk(self) -> bool:
        """Prepared inputs can be large: no more of them until the engine has taken some in."""
        return self._seats.num_waiting_bytes < self._parts.settings.prepared_bytes

    def _prepare(self, seat: Seat) -> None:
        try:
            self._bring(seat)
        finally:
            self._approach.leave(seat.job.id)

    def _bring(self, seat: Seat) -> None:
        """Prepare a job and hand its sequences to the engine, or settle it."""
        if seat.cancelled:
            self.settle(seat, Cancelled(seat.job))
            return
        try:
            prepared = self._served[seat.job.model].preparer.prepare(seat)
        except SluiceError as error:
            self.settle(seat, Failed(seat.job, error))
            return
        except Exception:
            log.exception("preparing job %d failed", seat.job.id)
            failure = ModelFailed(
                "The request could not be prepared for the model.", code="preparation_failed"
            )
            self.settle(seat, Failed(seat.job, failure))
            return
        if isinstance(prepared, Waiting):
            return
        if isinstance(prepared, Succeeded):
            self.settle(seat, prepared)
            return
        for sequence in prepared:
            self._stepper.submit(seat.job.model, sequence)
        self._stop_if_asked(seat)

    def _stop_if_asked(self, seat: Seat) -> None:
        """For a job that was cancelled while it was prepared, when the engine did not know it yet."""
        if seat.cancelled:
            self._stop_answers(seat)

    def _stop_answers(self, seat: Seat) -> None:
        for answer in seat.answers:
            self._stepper.cancel(answer.number)
