"""What the tests of actions do over and over: write manifests, play the worker, look at what is there."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from sqlalchemy import select

from service.actions.close_batches import close_batches
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.jobs import ClaimedJob, Failed, Outcome, Succeeded, Usage
from service.contract.lifecycle import JobState, WorkerRole
from service.errors import SluiceError
from service.store import jobs, workers
from service.store.tables import Job


def manifest(*lines: Any) -> list[bytes]:
    """JSONL of objects; bytes are taken as they are."""
    return [(line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines]


def prompts(number: int, start: int = 0) -> Iterable[bytes]:
    """Short lines with ids of their own."""
    return manifest(*({"id": f"p{i}", "prompt": f"Say {i}."} for i in range(start, start + number)))


def submit(parts: Parts, chunks: Iterable[bytes], **options: Any) -> str:
    """A batch that nobody has read yet."""
    return submit_jobs(parts, Caller(), chunks, BatchOptions(**options)).id


def accept(parts: Parts, chunks: Iterable[bytes], **options: Any) -> str:
    """A batch whose manifest was read."""
    batch_id = submit(parts, chunks, **options)
    ingest_manifest(parts, batch_id)
    return batch_id


def reply(job: ClaimedJob) -> Outcome:
    return Succeeded(
        job, {"id": f"chatcmpl-{job.id}", "model": job.model}, Usage(prompt_tokens=3, completion_tokens=2)
    )


def refuse(job: ClaimedJob, error: SluiceError) -> Outcome:
    return Failed(job, error)


def work(
    parts: Parts, limit: int = 1000, answer: Callable[[ClaimedJob], Outcome] = reply
) -> list[ClaimedJob]:
    """Claim up to `limit` jobs, answer them and record it, as a worker does."""
    with parts.database.transaction() as db:
        owner = workers.register(db, WorkerRole.ENGINE, "test", ["tiny"], None)
        claimed = jobs.claim(db, models=["tiny"], owner=owner, limit=limit)
        jobs.begin(db, claimed, owner)
    with parts.database.transaction() as db:
        recorded = jobs.finish(db, [answer(job) for job in claimed], owner)
        workers.retire(db, owner, "done")
    assert recorded.recorded == len(claimed)
    close_batches(parts, recorded.batches)
    return claimed


def rows(parts: Parts, batch_id: str) -> list[Job]:
    """A batch's jobs by line."""
    with parts.database.reading() as db:
        return list(db.scalars(select(Job).where(Job.batch_id == batch_id).order_by(Job.line_no)))


def states(parts: Parts, batch_id: str) -> list[JobState]:
    return [job.state for job in rows(parts, batch_id)]
