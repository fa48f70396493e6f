"""Who gets which jobs, and in which order."""

import threading
from collections import Counter

import pytest
from scenes import (
    MODEL,
    add_batch,
    add_chat,
    claim,
    come_due,
    finish,
    join,
    states,
    succeed,
    succeeded,
    unlucky,
)
from sqlalchemy import select, text, update

from service.contract.lifecycle import JobClass, JobState
from service.store import jobs, lanes, recovery, tenants
from service.store.database import Database
from service.store.jobs import NewJob
from service.store.progress import shard_of
from service.store.tables import Job


def test_no_job_is_claimed_by_two_workers(database: Database) -> None:
    batch_size, num_workers = 600, 4
    add_batch(database, lines=batch_size)
    taken: list[list[int]] = [[] for _ in range(num_workers)]
    start = threading.Barrier(num_workers)

    def work(mine: list[int]) -> None:
        worker = join(database)
        start.wait()
        while states(database)[JobState.QUEUED]:
            mine.extend(one.id for one in claim(database, worker, limit=7))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    claims = Counter(job_id for mine in taken for job_id in mine)
    assert len(claims) == batch_size
    assert set(claims.values()) == {1}


def test_jobs_come_by_priority_and_then_by_age(database: Database) -> None:
    add_batch(database, lines=2, priority=10)
    add_batch(database, lines=2, priority=5)
    claimed = claim(database, join(database))

    assert [one.priority for one in claimed] == [5, 5, 10, 10]
    assert [one.line_no for one in claimed] == [1, 2, 1, 2]


def test_chats_come_before_bulk_and_can_be_claimed_apart(database: Database) -> None:
    add_batch(database, lines=3)
    first, second = add_chat(database), add_chat(database)
    worker = join(database)

    assert [one.id for one in claim(database, worker, 1)] == [first]
    assert [one.id for one in claim(database, worker, 9, JobClass.CHAT)] == [second]
    assert {one.job_class for one in claim(database, worker, 9, JobClass.BULK)} == {JobClass.BULK}


def test_a_claimed_job_brings_its_request(database: Database) -> None:
    add_batch(database, lines=1)
    (claimed,) = claim(database, join(database))

    assert claimed.body == b'{"messages":[]}'
    assert (claimed.tenant_id, claimed.model, claimed.custom_id, claimed.line_no) == (
        "default",
        MODEL,
        "line-1",
        1,
    )
    assert (claimed.attempt, claimed.solo, claimed.payload) == (1, False, None)


def test_jobs_of_other_models_are_left_alone(database: Database) -> None:
    add_batch(database, lines=1)
    worker = join(database)
    with database.transaction() as db:
        assert jobs.claim(db, models=["another"], owner=worker, limit=5) == []
        assert jobs.claim(db, models=[], owner=worker, limit=5) == []
        assert jobs.claim(db, models=[MODEL], owner=worker, limit=0) == []


def test_a_small_tenant_waits_less_than_two_rounds_behind_a_noisy_one(database: Database) -> None:
    _add_tenants(database, "noisy", "small")
    add_batch(database, lines=500, tenant="noisy")
    worker = join(database)
    succeed(database, claim(database, worker, 32), worker)
    add_batch(database, lines=10, tenant="small")

    rounds = [claim(database, worker, 32) for _ in range(2)]

    assert Counter(one.tenant_id for one in rounds[0] + rounds[1])["small"] == 10


def test_tenants_share_by_weight(database: Database) -> None:
    _add_tenants(database, "light", "heavy")
    with database.transaction() as db:
        tenants.set_weight(db, "heavy", 3)
    add_batch(database, lines=200, tenant="light")
    add_batch(database, lines=200, tenant="heavy")
    worker = join(database)

    served: Counter[str] = Counter()
    for _ in range(24):
        claimed = claim(database, worker, 4)
        served.update(one.tenant_id for one in claimed)
        succeed(database, claimed, worker)

    assert 60 <= served["heavy"] <= 80
    assert served.total() == 96


def test_an_idle_tenant_saves_up_no_credit(database: Database) -> None:
    _add_tenants(database, "busy", "late")
    worker = join(database)
    add_batch(database, lines=200, tenant="busy")
    for _ in range(10):
        succeed(database, claim(database, worker, 8), worker)
    add_batch(database, lines=200, tenant="late")

    served: Counter[str] = Counter()
    for _ in range(10):
        claimed = claim(database, worker, 8)
        served.update(one.tenant_id for one in claimed)
        succeed(database, claimed, worker)

    assert 32 <= served["busy"] <= 48


def test_a_lane_that_ran_empty_is_found_again_when_jobs_come(database: Database) -> None:
    worker = join(database)
    for _ in range(3):
        add_batch(database, lines=2)
        assert len(claim(database, worker)) == 2
        assert claim(database, worker) == []


def test_a_lane_is_not_closed_over_jobs_that_are_just_being_queued(database: Database) -> None:
    """Adders and claimers race for one lane that keeps running empty; no job may be left behind in it."""
    add_batch(database, lines=1)
    worker = join(database)
    claim(database, worker)
    adding = threading.Thread(target=lambda: [add_chat(database) for _ in range(40)])
    adding.start()
    num_claimed = 0
    while adding.is_alive():
        num_claimed += len(claim(database, worker, 5))
    adding.join()
    while claimed := claim(database, worker, 5):
        num_claimed += len(claimed)

    assert num_claimed == 40


@pytest.mark.postgres
def test_a_lane_stays_open_for_jobs_that_are_committed_later(postgres_url: str) -> None:
    database = Database(postgres_url)
    worker = join(database)
    add_chat(database)
    with database.transaction() as adding:
        jobs.insert_chat(adding, NewJob("default", MODEL, b"{}"))
        assert len(claim(database, worker)) == 1
    assert len(claim(database, worker)) == 1
    database.close()


@pytest.mark.postgres
def test_a_lane_stays_open_for_jobs_that_another_worker_gives_up(postgres_url: str) -> None:
    database = Database(postgres_url)
    add_batch(database, lines=4)
    stumbling, worker = join(database), join(database)
    while shard_of(worker) == shard_of(stumbling):  # they would wait for each other's commit
        worker = join(database)
    with pytest.raises(KeyError):
        _claim_around_one_that_stumbles(database, stumbling, worker)
    assert len(claim(database, worker)) == 2
    database.close()


def test_a_lane_that_was_closed_by_mistake_is_opened_by_the_reaper(database: Database) -> None:
    add_batch(database, lines=1)
    with database.transaction() as db:
        db.execute(update(lanes.Lane).values(active=False))
    worker = join(database)
    assert claim(database, worker) == []
    with database.transaction() as db:
        recovery.wake_due(db)
    assert len(claim(database, worker)) == 1


def test_jobs_that_were_overtaken_for_too_long_move_to_the_front(database: Database) -> None:
    add_batch(database, lines=2, priority=20)
    with database.transaction() as db:
        db.execute(update(Job).values(created_at=Job.created_at - recovery.AGED_SECONDS - 1))
    add_batch(database, lines=2, priority=10)
    with database.transaction() as db:
        assert recovery.promote_aged(db) == 2
        assert recovery.promote_aged(db) == 0

    assert [one.id for one in claim(database, join(database))] == [1, 2, 3, 4]


def test_queued_jobs_are_counted_by_class(database: Database) -> None:
    add_batch(database, lines=3)
    add_chat(database)
    with database.reading() as db:
        assert jobs.count_queued(db, [MODEL]) == 4
        assert jobs.count_queued(db, [MODEL], JobClass.CHAT) == 1
        assert jobs.count_queued(db, ["another"]) == 0


def test_a_claim_reads_the_index_of_ready_jobs(database: Database) -> None:
    """Not the table: a million ended jobs must not slow it down."""
    add_batch(database, lines=1)
    lane = lanes.LaneId("default", MODEL, JobClass.BULK)
    query = select(Job.id).where(*lane.queued_jobs()).order_by(Job.priority, Job.id).limit(1)
    with database.reading() as db:
        if database.dialect == "postgresql":
            db.execute(text("SET LOCAL enable_seqscan = off"))
        words = query.compile(db.get_bind(), compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
        plan = str(db.execute(text(f"{explain} {words}")).all())
        sent = str(query.compile(db.get_bind(), compile_kwargs={"render_postcompile": True}))
    assert "ix_jobs_ready" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan
    # A state that is sent as a parameter matches no partial index.
    assert "state = 'queued' AND jobs.crashes = 0" in sent


def test_a_retryable_failure_waits_in_backoff_and_comes_back(database: Database) -> None:
    add_batch(database, lines=1)
    worker = join(database)
    claimed = claim(database, worker)
    finish(database, [unlucky(claimed[0])], worker)

    assert claim(database, worker) == []
    come_due(database)
    (again,) = claim(database, worker)
    assert again.attempt == 2
    assert finish(database, [succeeded(again)], worker).recorded == 1


def _add_tenants(database: Database, *names: str) -> None:
    with database.transaction() as db:
        for name in names:
            tenants.ensure(db, name)


def _claim_around_one_that_stumbles(database: Database, stumbling: str, worker: str) -> None:
    with database.transaction() as db:
        assert len(jobs.claim(db, models=[MODEL], owner=stumbling, limit=2)) == 2
        assert len(claim(database, worker)) == 2
        raise KeyError


def test_a_worker_hands_back_what_a_broken_claim_left_in_its_name(database: Database) -> None:
    add_batch(database, lines=3)
    worker, other = join(database), join(database)
    known, *unknown = claim(database, worker, limit=2)
    claim(database, other, limit=1)

    with database.transaction() as db:
        released = jobs.release_all_but(db, worker, {known.id})

    assert released == len(unknown) == 1
    assert states(database) == {JobState.RUNNING: 2, JobState.QUEUED: 1}
    (again,) = claim(database, other)
    assert (again.id, again.attempt, again.crashes) == (unknown[0].id, 1, 0)
