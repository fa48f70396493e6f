"""How fast models have answered lately, from the results themselves."""

import datetime
from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.contract.lifecycle import JobClass, JobState
from service.store.database import database_now
from service.store.tables import Job, Result, Usage

RECENT_JOBS = 20_000
RECENT_SECONDS = 24 * 3600
MOST_RESULTS = 1000
# Fewer say little: most of their time may have been spent on the first one's way.
LEAST_RESULTS = 8


def tokens_per_second(db: Session, model: str) -> float | None:
    """Tokens of prompts and answers that a model's workers took in a second of bulk work; None if there was too little.

    Its cost is bounded, however many jobs there are.
    """
    newest = select(func.max(Job.id)).scalar_subquery()
    seconds = Result.prompt_seconds + Result.completion_seconds
    rows = db.execute(
        select(
            Result.finished_at - seconds,
            Result.finished_at,
            Result.prompt_tokens + Result.completion_tokens,
        )
        .join(Job, Job.id == Result.job_id)
        .where(
            Job.id > newest - RECENT_JOBS,
            Job.model == model,
            Job.job_class == JobClass.BULK,
            Job.state == JobState.SUCCEEDED,
            Result.finished_at > database_now() - RECENT_SECONDS,
            seconds > 0,
        )
        .order_by(Job.id.desc())
        .limit(MOST_RESULTS)
    ).all()
    busy = _covered_seconds((row[0], row[1]) for row in rows)
    return sum(row[2] for row in rows) / busy if len(rows) >= LEAST_RESULTS and busy > 0 else None


def tokens_per_answer(db: Session, tenant_id: str, model: str, days: int = 7) -> float | None:
    """The mean length of a model's answers to a tenant in the last days; None where there were none."""
    since = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days)
    sums = select(func.sum(Usage.requests), func.sum(Usage.completion_tokens)).where(
        Usage.tenant_id == tenant_id, Usage.model == model, Usage.day >= since
    )
    requests, tokens = db.execute(sums).one()
    return float(tokens) / float(requests) if requests else None


def _covered_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the spans lasted."""
    covered, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
