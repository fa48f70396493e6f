"""A paused batch rests, whatever comes back to it meanwhile, and goes on as if nothing had been."""

import threading

import pytest
from scenes import (
    BODY,
    MODEL,
    add_batch,
    add_chat,
    check_books,
    claim,
    claim_and_begin,
    come_due,
    die,
    finish,
    good_lines,
    ingest,
    join,
    new_batch,
    refused,
    states,
    succeed,
    unlucky,
)
from sqlalchemy import select, text, update

from service.contract.lifecycle import BatchState, JobClass, JobState
from service.store import batches, gauges, jobs, lanes, recovery, wishes
from service.store.database import Database
from service.store.jobs import NewLine
from service.store.tables import Batch, Job, Lane

ONE_WITH_ROW_LOCKS = [pytest.param("postgresql", marks=pytest.mark.postgres)]
QUEUED, HELD, BACKOFF, RUNNING = JobState.QUEUED, JobState.HELD, JobState.BACKOFF, JobState.RUNNING


def pause(database: Database, batch_id: str) -> bool:
    with database.transaction() as db:
        return wishes.pause(db, "default", batch_id)


def resume(database: Database, batch_id: str) -> bool:
    with database.transaction() as db:
        return wishes.resume(db, "default", batch_id)


def set_priority(database: Database, batch_id: str, priority: int) -> bool:
    with database.transaction() as db:
        return wishes.set_priority(db, "default", batch_id, priority)


def tell(database: Database, batch_id: str, limit: int = 5000) -> bool:
    with database.transaction() as db:
        return wishes.spread(db, batch_id, limit).goes_on


def tell_all(database: Database, batch_id: str, limit: int = 5000) -> None:
    while tell(database, batch_id, limit):
        pass


def rest(database: Database, batch_id: str) -> None:
    """Pause a batch and tell all its jobs."""
    assert pause(database, batch_id)
    tell_all(database, batch_id)


def state_of(database: Database, batch_id: str) -> BatchState:
    with database.reading() as db:
        return db.get_one(Batch, batch_id).state


def priorities(database: Database, batch_id: str) -> list[int]:
    with database.reading() as db:
        in_order = select(Job.priority).where(Job.batch_id == batch_id).order_by(Job.line_no)
        return list(db.scalars(in_order))


def test_a_paused_batch_gives_nothing_to_claim_and_a_resumed_one_all_that_is_left(database: Database) -> None:
    batch_id = add_batch(database, lines=7)
    worker = join(database)
    running = claim(database, worker, 2)

    assert pause(database, batch_id)
    assert not pause(database, batch_id)
    tell_all(database, batch_id, limit=3)
    assert states(database) == {RUNNING: 2, HELD: 5}
    assert claim(database, worker) == []
    succeed(database, running, worker)
    check_books(database, batch_id, 7)

    assert resume(database, batch_id)
    assert not resume(database, batch_id)
    tell_all(database, batch_id, limit=3)
    left = claim(database, worker)
    assert [job.line_no for job in left] == [3, 4, 5, 6, 7]
    succeed(database, left, worker)
    check_books(database, batch_id, 7)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)


def test_a_paused_batch_does_not_close_while_lines_are_held(database: Database) -> None:
    batch_id = add_batch(database, lines=3)
    worker = join(database)
    running = claim(database, worker, 1)
    rest(database, batch_id)
    succeed(database, running, worker)
    with database.transaction() as db:
        assert not batches.close_if_done(db, batch_id)


def test_no_job_of_a_batch_that_rests_is_begun_before_it_was_told(database: Database) -> None:
    """A million jobs are not told at once; whoever claims them meanwhile lays them aside."""
    resting, stopping, other = (add_batch(database, lines=2) for _ in range(3))
    assert pause(database, resting)
    with database.transaction() as db:
        assert batches.request_cancel(db, "default", stopping)

    worker = join(database)
    claimed = claim(database, worker)

    assert [job.batch_id for job in claimed] == [other, other]
    assert states(database) == {HELD: 4, RUNNING: 2}
    with database.transaction() as db:
        recovery.apply_cancels(db)
    assert resume(database, resting)
    tell_all(database, resting)
    again = claim(database, worker)
    assert [(job.batch_id, job.attempt) for job in again] == [(resting, 1), (resting, 1)]
    succeed(database, [*claimed, *again], worker)
    check_books(database, stopping, 2, alone=False)
    check_books(database, resting, 2, alone=False)


def test_other_batches_go_on_and_their_claims_find_no_held_job_in_the_way(database: Database) -> None:
    resting = add_batch(database, lines=40)
    other = add_batch(database, lines=3)
    rest(database, resting)

    claimed = claim(database, join(database))

    assert [job.batch_id for job in claimed] == [other] * 3


def test_lines_that_are_read_while_their_batch_is_paused_are_held(database: Database) -> None:
    batch_id = new_batch(database)
    ingest(database, batch_id, good_lines(1, 2), done=False)
    with database.reading() as db:
        stale = batches.find(db, batch_id)  # as an ingester holds it, who began before the pause
    set_priority(database, batch_id, 3)
    rest(database, batch_id)
    assert stale is not None
    with database.transaction() as db:
        assert batches.advance_ingest(db, batch_id, 2, 4, num_lines=2, done=True)
        jobs.insert_lines(db, stale, good_lines(3, 4))

    assert states(database) == {HELD: 4}
    assert priorities(database, batch_id) == [3] * 4
    check_books(database, batch_id, 4)
    assert resume(database, batch_id)
    tell_all(database, batch_id)
    assert len(claim(database, join(database))) == 4


def test_what_comes_back_to_a_paused_batch_is_held(database: Database) -> None:
    """From a worker that died, one that drains, and from backoff."""
    batch_id = add_batch(database, lines=6)
    dying, leaving = join(database), join(database)
    claim_and_begin(database, dying, 2)
    released = claim(database, leaving, 3)
    finish(database, [unlucky(released[0])], leaving)
    rest(database, batch_id)
    assert states(database) == {RUNNING: 4, BACKOFF: 1, HELD: 1}

    die(database, dying)
    with database.transaction() as db:
        assert jobs.release(db, released[1:], leaving) == 2
    come_due(database)

    assert states(database) == {HELD: 6}
    assert claim(database, join(database)) == []
    assert resume(database, batch_id)
    tell_all(database, batch_id)
    # The suspects run in small company first, and what came out of backoff is there too.
    worker, done = join(database), 0
    while claimed := claim_and_begin(database, worker):
        done += succeed(database, claimed, worker).recorded
    assert done == 6
    check_books(database, batch_id, 6)


def test_a_batch_that_is_not_paused_gets_what_comes_back_into_its_queue(database: Database) -> None:
    resting, other = add_batch(database, lines=1), add_batch(database, lines=1)
    worker = join(database)
    claim_and_begin(database, worker)
    rest(database, resting)
    reaped = die(database, worker)
    assert reaped.requeued == 2
    with database.reading() as db:
        rows = dict(list(db.execute(select(Job.batch_id, Job.state))))
    assert rows == {resting: HELD, other: QUEUED}


@pytest.mark.parametrize("dialect", ONE_WITH_ROW_LOCKS, indirect=True)
def test_a_job_that_is_locked_while_it_should_be_held_is_told_later(database: Database) -> None:
    """A claim that rolls back gives a job back behind the sweep."""
    batch_id = add_batch(database, lines=4)
    assert pause(database, batch_id)
    with database.connect() as connection:
        transaction = connection.begin()
        connection.execute(text("SELECT id FROM jobs WHERE line_no = 2 FOR UPDATE"))
        assert tell(database, batch_id)
        assert not tell(database, batch_id)  # it waits for nobody: the next round comes by again
        assert states(database) == {HELD: 3, QUEUED: 1}
        transaction.rollback()

    tell_all(database, batch_id)
    assert states(database) == {HELD: 4}
    with database.reading() as db:
        assert wishes.wishing_batches(db) == []


def test_a_job_that_was_held_too_late_is_found_again(database: Database) -> None:
    batch_id = add_batch(database, lines=2)
    with database.transaction() as db:
        # As if a reaper had held it in a transaction that ended after the batch had been resumed.
        db.execute(update(Job).where(Job.line_no == 1).values(state=HELD))
        assert wishes.renew_forgotten(db) == 1
        assert wishes.renew_forgotten(db) == 0
    tell_all(database, batch_id)
    assert states(database) == {QUEUED: 2}
    rest(database, batch_id)
    with database.transaction() as db:
        assert wishes.renew_forgotten(db) == 0


def test_a_telling_that_was_rolled_back_is_done_again(database: Database) -> None:
    batch_id = add_batch(database, lines=5)
    assert pause(database, batch_id)
    with pytest.raises(KeyError):
        _tell_and_stumble(database, batch_id)
    assert states(database) == {QUEUED: 5}
    tell_all(database, batch_id, limit=2)
    assert states(database) == {HELD: 5}


def test_a_resumed_batch_opens_its_lanes_again(database: Database) -> None:
    batch_id = add_batch(database, lines=2)
    rest(database, batch_id)
    worker = join(database)
    assert claim(database, worker) == []
    with database.reading() as db:
        assert not db.scalar(select(Lane.active))
        assert lanes.in_turn(db, [MODEL]) == []

    resume(database, batch_id)
    with database.transaction() as db:
        assert wishes.spread(db, batch_id).models == {MODEL}
    assert len(claim(database, worker)) == 2


def test_cancelling_a_paused_batch_cancels_what_is_held(database: Database) -> None:
    batch_id = add_batch(database, lines=5)
    worker = join(database)
    running = claim(database, worker, 1)
    rest(database, batch_id)
    with database.transaction() as db:
        assert batches.request_cancel(db, "default", batch_id)
    assert not resume(database, batch_id)
    with database.transaction() as db:
        assert recovery.apply_cancels(db).jobs == 4
    succeed(database, running, worker)
    check_books(database, batch_id, 5)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)


def test_a_paused_batch_expires_all_the_same(database: Database) -> None:
    batch_id = new_batch(database, window_seconds=-1.0)
    ingest(database, batch_id, good_lines(1, 4))
    rest(database, batch_id)
    with database.transaction() as db:
        assert recovery.expire_due(db).jobs == 4
    check_books(database, batch_id, 4)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)
        assert batches.complete(db, batch_id)
    assert state_of(database, batch_id) is BatchState.EXPIRED


def test_one_held_job_can_be_cancelled(database: Database) -> None:
    batch_id = add_batch(database, lines=2)
    rest(database, batch_id)
    with database.transaction() as db:
        assert jobs.cancel(db, "default", 1)
    check_books(database, batch_id, 2)
    assert states(database) == {JobState.CANCELLED: 1, HELD: 1}


def test_held_jobs_are_gauged_and_listed(database: Database) -> None:
    batch_id = add_batch(database, lines=3)
    add_chat(database)
    rest(database, batch_id)
    with database.reading() as db:
        assert gauges.open_jobs(db) == {(HELD, JobClass.BULK): 3, (QUEUED, JobClass.CHAT): 1}
        listed = jobs.page(db, "default", batch_id=batch_id, states={HELD}, limit=2)
    assert [view.line_no for view in listed] == [1, 2]


def test_a_new_priority_reaches_every_line_that_has_not_ended_and_those_to_come(database: Database) -> None:
    batch_id = new_batch(database, priority=50)
    ingest(database, batch_id, good_lines(1, 6), done=False)
    worker = join(database)
    first = claim(database, worker, 4)
    succeed(database, first[:1], worker)
    finish(database, [unlucky(first[1]), refused(first[2])], worker)

    assert set_priority(database, batch_id, 3)
    assert not set_priority(database, batch_id, 3)
    tell_all(database, batch_id, limit=2)
    ingest(database, batch_id, good_lines(7, 7))

    assert priorities(database, batch_id) == [50, 3, 50, 3, 3, 3, 3]
    with database.transaction() as db:
        assert jobs.release(db, first[3:], worker) == 1
    assert priorities(database, batch_id)[3] == 3


def test_an_urgent_batch_overtakes_another_of_its_lane(database: Database) -> None:
    early, late = add_batch(database, lines=3), add_batch(database, lines=3)
    set_priority(database, late, 1)
    tell_all(database, late)
    claimed = claim(database, join(database), 4)
    assert [job.batch_id for job in claimed] == [late, late, late, early]


def test_a_batch_that_has_ended_has_no_wishes(database: Database) -> None:
    batch_id = add_batch(database, lines=1)
    worker = join(database)
    assert pause(database, batch_id)
    assert resume(database, batch_id)
    succeed(database, claim(database, worker), worker)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)
    assert not pause(database, batch_id)
    assert not resume(database, batch_id)
    assert not set_priority(database, batch_id, 1)
    with database.reading() as db:
        assert wishes.wishing_batches(db) == []


def test_another_tenants_batch_hears_no_wish(database: Database) -> None:
    batch_id = add_batch(database, lines=1)
    with database.transaction() as db:
        assert not wishes.pause(db, "somebody", batch_id)
        assert not wishes.set_priority(db, "somebody", batch_id, 1)
    assert states(database) == {QUEUED: 1}


def test_pausing_and_resuming_amid_workers_who_die_loses_and_doubles_nothing(database: Database) -> None:
    """Workers claim, fail, die and finish while the batch is paused and resumed over and over."""
    total = 300
    batch_id = new_batch(database)
    stop = threading.Event()
    errors: list[BaseException] = []

    def guarded(play: object) -> None:
        try:
            play()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    def read() -> None:
        for first in range(1, total, 20):
            lines = [NewLine(n, f"line-{n}", MODEL, BODY) for n in range(first, first + 20)]
            ingest(database, batch_id, lines, done=first + 20 > total)

    def work() -> None:
        while not stop.is_set():
            worker = join(database)
            claimed = claim(database, worker, 9)
            finish(database, [unlucky(job) for job in claimed[:1] if job.attempt == 1], worker)
            succeed(database, claimed[1:6], worker)
            die(database, worker)
            come_due(database)

    def toggle() -> None:
        for _ in range(8):
            pause(database, batch_id)
            tell_all(database, batch_id, limit=50)
            resume(database, batch_id)
            tell_all(database, batch_id, limit=50)

    plays = [threading.Thread(target=guarded, args=(play,)) for play in (read, work, work, toggle)]
    for play in plays:
        play.start()
    for play in (plays[0], plays[3]):
        play.join()
    stop.set()
    for play in plays:
        play.join()
    assert errors == []

    worker = join(database)
    with database.transaction() as db:
        wishes.renew_forgotten(db)
    tell_all(database, batch_id)
    come_due(database)
    while claimed := claim_and_begin(database, worker):
        succeed(database, claimed, worker)
    check_books(database, batch_id, total)
    assert states(database) == {JobState.SUCCEEDED: total}


def _tell_and_stumble(database: Database, batch_id: str) -> None:
    with database.transaction() as db:
        wishes.spread(db, batch_id, 2)
        raise KeyError
