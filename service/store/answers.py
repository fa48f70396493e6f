"""Answers that equal requests of the same tenant may be given again: by digest, the job whose result holds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Float, bindparam, delete, select, tuple_
from sqlalchemy.orm import Session

from service.contract.jobs import Succeeded, Usage
from service.store.database import database_now, insert_into
from service.store.tables import Answer, Result

FORGET_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer and the job that it was computed for. body: its whole reply."""

    job_id: int
    body: Mapping[str, Any]
    provenance: Mapping[str, Any]
    usage: Usage


def keep(db: Session, replies: list[Succeeded], *, now: float) -> None:
    """Remember replies by their digests, newer ones instead of older; in the transaction that records them."""
    # By digest, so that two who keep the same answers lock them in the same order.
    kept = {(reply.job.tenant_id, reply.digest): reply.job.id for reply in replies if reply.digest}
    rows = [
        {"tenant_id": tenant_id, "digest": digest, "job_id": job_id, "created_at": now}
        for (tenant_id, digest), job_id in sorted(kept.items())
    ]
    if not rows:
        return
    added = insert_into(db, Answer)
    newer = {"job_id": added.excluded.job_id, "created_at": added.excluded.created_at}
    db.execute(added.on_conflict_do_update(index_elements=["tenant_id", "digest"], set_=newer), rows)


def find(db: Session, tenant_id: str, digest: bytes, *, max_age_seconds: float) -> KeptAnswer | None:
    """The answer to a request with this digest, if it is young enough and its result is still there."""
    wanted = {"wanted_by": tenant_id, "wanted": digest, "max_age_seconds": max_age_seconds}
    row = db.connection().execute(_FOUND, wanted).first()
    if row is None:
        return None
    found = row._asdict()
    job_id, body, provenance = (found.pop(name) for name in ("job_id", "body", "provenance"))
    return KeptAnswer(job_id, orjson.loads(body), orjson.loads(provenance or b"{}"), Usage(**found))


def forget_old(db: Session, max_age_seconds: float, limit: int = FORGET_CHUNK) -> int:
    """Forget up to `limit` answers that are too old to be given again; returns how many."""
    old = (
        select(Answer.tenant_id, Answer.digest)
        .where(Answer.created_at <= database_now() - max_age_seconds)
        .order_by(Answer.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("old")
        .prefix_with("MATERIALIZED")
    )
    chosen = tuple_(Answer.tenant_id, Answer.digest).in_(select(old.c.tenant_id, old.c.digest))
    forgotten = delete(Answer).where(chosen).returning(Answer.job_id)
    return len(db.execute(forgotten.execution_options(synchronize_session=False)).all())


# Made once, and run past the ORM: it is looked up for every request that allows it.
_FOUND = (
    select(
        Answer.job_id,
        Result.body,
        Result.provenance,
        Result.prompt_tokens,
        Result.completion_tokens,
        Result.text_tokens,
        Result.image_tokens,
        Result.video_tokens,
        Result.audio_tokens,
    )
    .join(Result, Result.job_id == Answer.job_id)
    .where(
        Answer.tenant_id == bindparam("wanted_by"),
        Answer.digest == bindparam("wanted"),
        Answer.created_at > database_now() - bindparam("max_age_seconds", type_=Float(53)),
    )
)
