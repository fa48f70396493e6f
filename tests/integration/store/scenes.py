"""The steps that store tests are told in. Each is one committed transaction."""

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select, text, update

from service.contract.jobs import Cancelled, ClaimedJob, Failed, Recorded, Succeeded, Usage
from service.contract.lifecycle import WITH_RESULT, JobClass, JobState, WorkerRole
from service.errors import BadRequest, Unavailable
from service.store import batches, jobs, progress, recovery, tables, workers
from service.store.batches import NewBatch
from service.store.database import Database
from service.store.jobs import Inserted, NewJob, NewLine
from service.store.recovery import Reaped
from service.store.tables import BatchProgress, Job, Result, Worker

MODEL = "tiny"
BODY = b'{"messages":[]}'
PROMPT_TOKENS, COMPLETION_TOKENS = 7, 3


def add_batch(database: Database, lines: int, *, tenant: str = "default", priority: int = 10) -> str:
    """A batch whose lines are all good and all there."""
    with database.transaction() as db:
        batch = batches.create(db, NewBatch(tenant_id=tenant, manifest="m.jsonl", priority=priority))
        assert batches.advance_ingest(db, batch.id, 0, lines, num_lines=lines, done=True)
        jobs.insert_lines(db, batch, [NewLine(n, f"line-{n}", MODEL, BODY) for n in range(1, lines + 1)])
    return batch.id


def good_lines(first: int, last: int) -> list[NewLine]:
    return [NewLine(number, f"line-{number}", MODEL, BODY) for number in range(first, last + 1)]


def new_batch(database: Database, **wanted: object) -> str:
    with database.transaction() as db:
        return batches.create(db, NewBatch("default", "m.jsonl", **wanted)).id  # type: ignore[arg-type]


def ingest(database: Database, batch_id: str, chunk: list[NewLine], done: bool = True) -> Inserted | None:
    """One chunk of an ingest, counted in lines instead of bytes."""
    with database.transaction() as db:
        batch = batches.find(db, batch_id)
        assert batch is not None
        start = batch.ingest_offset
        if not batches.advance_ingest(
            db, batch_id, start, start + len(chunk), num_lines=len(chunk), done=done
        ):
            return None
        return jobs.insert_lines(db, batch, chunk)


def add_chat(database: Database, tenant: str = "default", expires_in_seconds: float | None = None) -> int:
    with database.transaction() as db:
        return jobs.insert_chat(db, NewJob(tenant, MODEL, BODY, expires_in_seconds=expires_in_seconds))


def join(database: Database, lease_seconds: float = 60) -> str:
    """A new worker with a live lease and a ready model."""
    with database.transaction() as db:
        worker = workers.register(db, WorkerRole.ENGINE, "here", [MODEL], "cpu", lease_seconds=lease_seconds)
        workers.set_model_state(db, worker, MODEL, "ready", "r1")
    return worker


def claim(
    database: Database, worker: str, limit: int = 64, job_class: JobClass | None = None
) -> list[ClaimedJob]:
    with database.transaction() as db:
        return jobs.claim(db, models=[MODEL], owner=worker, limit=limit, job_class=job_class)


def begin(database: Database, claimed: Sequence[ClaimedJob], worker: str) -> set[int]:
    with database.transaction() as db:
        return jobs.begin(db, claimed, worker)


def claim_and_begin(database: Database, worker: str, limit: int = 64) -> list[ClaimedJob]:
    claimed = claim(database, worker, limit)
    begin(database, claimed, worker)
    return claimed


def succeeded(job: ClaimedJob) -> Succeeded:
    return Succeeded(job, {"answer": job.id}, Usage(PROMPT_TOKENS, COMPLETION_TOKENS))


def refused(job: ClaimedJob) -> Failed:
    return Failed(job, BadRequest("The image is broken.", param="messages[0]"))


def unlucky(job: ClaimedJob) -> Failed:
    return Failed(job, Unavailable("The host of the image does not answer."))


def finish(database: Database, outcomes: Iterable[Succeeded | Failed | Cancelled], worker: str) -> Recorded:
    with database.transaction() as db:
        return jobs.finish(db, list(outcomes), worker)


def succeed(database: Database, claimed: Iterable[ClaimedJob], worker: str) -> Recorded:
    return finish(database, [succeeded(job) for job in claimed], worker)


def die(database: Database, worker: str) -> Reaped:
    """The worker is gone, its lease runs out, and the reaper comes by."""
    with database.transaction() as db:
        db.execute(update(Worker).where(Worker.id == worker).values(lease_until=0))
    with database.transaction() as db:
        return recovery.reap_workers(db)


def come_due(database: Database) -> None:
    """All backoffs are over."""
    with database.transaction() as db:
        db.execute(update(Job).where(Job.state == JobState.BACKOFF).values(run_at=0))
        recovery.wake_due(db)


def job(database: Database, job_id: int) -> Job:
    with database.reading() as db:
        return db.get_one(Job, job_id)


def states(database: Database) -> Counter[JobState]:
    with database.reading() as db:
        rows = db.execute(select(Job.state, func.count()).group_by(Job.state))
        return Counter(dict(list(rows)))


def check_books(database: Database, batch_id: str, lines: int, *, alone: bool = True) -> None:
    """What must be true of a batch at any moment, whatever has died. alone: nobody else used any tokens."""
    with database.reading() as db:
        if database.dialect == "postgresql":
            db.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        by_state = Counter(db.scalars(select(Job.state).where(Job.batch_id == batch_id)).all())
        counts = progress.of(db, batch_id)
        results = db.execute(
            select(func.count(), func.sum(Result.prompt_tokens), func.sum(Result.completion_tokens)).where(
                Result.batch_id == batch_id
            )
        ).one()
        per_shard = select(Result.shard, func.count(), func.max(Result.seq)).where(
            Result.batch_id == batch_id
        )
        sequences = {shard: (num, last) for shard, num, last in db.execute(per_shard.group_by(Result.shard))}
        shards = select(BatchProgress.shard, BatchProgress.seq).where(BatchProgress.batch_id == batch_id)
        given = {shard: (seq, seq) for shard, seq in db.execute(shards) if seq}
        used = db.execute(
            select(func.sum(tables.Usage.prompt_tokens), func.sum(tables.Usage.completion_tokens))
        ).one()
        orphans = db.scalar(
            text(
                "SELECT count(*) FROM jobs JOIN workers ON workers.id = jobs.owner"
                " WHERE jobs.state = 'running' AND workers.dead"
            )
        )
        total = db.get_one(batches.Batch, batch_id).total
    assert by_state.total() == lines == total
    assert {state: by_state[state] for state in JobState if state.is_terminal} == {
        state: getattr(counts, state.value) for state in JobState if state.is_terminal
    }
    assert results[0] == sum(by_state[state] for state in WITH_RESULT)
    assert (results[1] or 0, results[2] or 0) == (counts.prompt_tokens, counts.completion_tokens)
    if alone:
        assert (used[0] or 0, used[1] or 0) == (counts.prompt_tokens, counts.completion_tokens)
    assert sequences == given  # 1, 2, 3 … without a gap
    assert orphans == 0
