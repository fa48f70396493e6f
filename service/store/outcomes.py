"""Finishing: what a worker writes about the jobs that it ran, or nothing where they are no longer its own."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import case, or_, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from service.contract.jobs import Cancelled, Failed, Outcome, Recorded, Succeeded, WorkerId
from service.contract.lifecycle import JobState
from service.store import answers, lanes, response_news, results, usage
from service.store.claims import CLAIM_CHARGE_TOKENS
from service.store.database import database_now
from service.store.fence import LEFT, held_by
from service.store.lanes import LaneId
from service.store.progress import shard_of
from service.store.results import Ending
from service.store.states import BACKOFF, constant
from service.store.tables import Job

MAX_FAILURES = 5
MAX_BACKOFF_SECONDS = 600.0
_BACKOFF_SECONDS = {n: min(MAX_BACKOFF_SECONDS, 2.0 ** (n + 1)) for n in range(MAX_FAILURES)}


@dataclass(frozen=True, slots=True)
class _Moved:
    outcome: Outcome
    state: JobState
    now: float


def finish(db: Session, outcomes: Sequence[Outcome], owner: WorkerId) -> Recorded:
    """Record outcomes with their results, usage and their batches' progress, in one transaction.

    The reaper may have taken a job back while it ran: such a job is no longer ours, and nothing is written for it.
    A retryable error sends its job to backoff until it has failed `MAX_FAILURES` times.
    """
    by_job = {outcome.job.id: outcome for outcome in sorted(outcomes, key=lambda outcome: outcome.job.id)}
    moved = sorted(_leave_running(db, by_job, owner), key=lambda move: move.outcome.job.id)
    shard = shard_of(owner)
    ended = [move for move in moved if move.state.is_terminal]
    endings = [_ending(move, owner) for move in ended]
    batches = results.record(db, endings, shard)
    for move, ending in zip(ended, endings, strict=True):
        response_news.announce(db, move.outcome.job, move.state, ending.body)
    replies = [move.outcome for move in ended if isinstance(move.outcome, Succeeded)]
    if replies:
        usage.add(db, replies, now=ended[0].now, shard=shard)
        lanes.charge(db, _settlements(replies), shard)
        answers.keep(db, replies, now=ended[0].now)
    return Recorded(recorded=len(moved), fenced=len(outcomes) - len(moved), batches=batches)


def _leave_running(db: Session, by_job: dict[int, Outcome], owner: WorkerId) -> Iterable[_Moved]:
    groups: defaultdict[tuple[JobState, int], list[int]] = defaultdict(list)
    for job_id, outcome in by_job.items():
        if isinstance(outcome, Failed) and outcome.error.retryable:
            yield from _moved(db, _back_off(outcome, owner), by_job)
        else:
            groups[_final_state(outcome), outcome.job.attempt].append(job_id)
    for (state, attempt), job_ids in groups.items():
        ended = (
            update(Job)
            .where(Job.id.in_(job_ids), *held_by(owner, attempt))
            .values(state=state, finished_at=database_now(), **LEFT)
            .returning(Job.id, Job.state, database_now().label("now"))
        )
        yield from _moved(db, ended, by_job)


def _final_state(outcome: Outcome) -> JobState:
    match outcome:
        case Succeeded():
            return JobState.SUCCEEDED
        case Failed():
            return JobState.FAILED
        case Cancelled():
            return JobState.CANCELLED


def _back_off(outcome: Failed, owner: WorkerId) -> ReturningUpdate[int, JobState, float]:
    last = Job.failures + 1 >= MAX_FAILURES
    now = database_now()
    # Full jitter: jobs that failed together do not come back together.
    delay = random.random() * case(_BACKOFF_SECONDS, value=Job.failures, else_=MAX_BACKOFF_SECONDS)
    return (
        update(Job)
        .where(Job.id == outcome.job.id, *held_by(owner, outcome.job.attempt))
        .values(
            state=case(
                (Job.cancel_requested, constant(JobState.CANCELLED)),
                (last, constant(JobState.FAILED)),
                else_=BACKOFF,
            ),
            failures=Job.failures + 1,
            run_at=now + delay,
            finished_at=case((or_(Job.cancel_requested, last), now)),
            **LEFT,
        )
        .returning(Job.id, Job.state, now.label("now"))
    )


def _moved(
    db: Session, statement: ReturningUpdate[int, JobState, float], by_job: dict[int, Outcome]
) -> list[_Moved]:
    rows = db.execute(statement.execution_options(synchronize_session=False))
    return [_Moved(by_job[row.id], row.state, row.now) for row in rows]


def _ending(move: _Moved, owner: WorkerId) -> Ending:
    job = move.outcome.job
    ending = Ending(job.id, job.batch_id, move.state, owner, job.attempt, move.now)
    match move.outcome:
        case Succeeded(body=body, usage=spent, provenance=provenance):
            return replace(ending, body=body, usage=spent, provenance=provenance)
        case Failed(error=error, provenance=provenance):
            return replace(ending, body=results.error_body(error), provenance=provenance)
    return ending


def _settlements(replies: Iterable[Succeeded]) -> Counter[LaneId]:
    tokens: Counter[LaneId] = Counter()
    for reply in replies:
        lane = LaneId(reply.job.tenant_id, reply.job.model, reply.job.job_class)
        tokens[lane] += reply.spent.total_tokens - CLAIM_CHARGE_TOKENS
    return tokens
