"""Usage: who spent how many tokens, written in the transaction that writes the result."""

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.contract.jobs import Succeeded
from service.store.database import insert_into
from service.store.tables import Usage

COUNTED = ("requests", "prompt_tokens", "completion_tokens", "image_tokens", "video_tokens", "audio_tokens")


@dataclass(frozen=True, slots=True)
class Spent:
    """What one key spent on one model on one day (UTC). key_id: None where no key was used."""

    key_id: str | None
    model: str
    day: datetime.date
    requests: int
    prompt_tokens: int
    completion_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int


def add(db: Session, replies: Iterable[Succeeded], *, now: float, shard: int) -> None:
    """Count replies. now: the database's seconds since 1970, which give the day."""
    day = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
    sums: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for reply in replies:
        spent = sums[reply.job.tenant_id, reply.job.key_id or "", reply.job.model]
        spent["requests"] += 1
        for name in COUNTED[1:]:
            spent[name] += getattr(reply.usage, name)
    if not sums:
        return
    rows = [
        {"tenant_id": tenant, "key_id": key, "model": model, "day": day, "shard": shard}
        | {name: sums[tenant, key, model][name] for name in COUNTED}
        for tenant, key, model in sorted(sums)
    ]
    added = insert_into(db, Usage)
    db.execute(
        added.on_conflict_do_update(
            index_elements=["tenant_id", "key_id", "model", "day", "shard"],
            set_={name: getattr(Usage, name) + added.excluded[name] for name in COUNTED},
        ),
        rows,
    )


def of(db: Session, tenant_id: str, *, since: datetime.date, until: datetime.date) -> list[Spent]:
    """A tenant's usage by key, model and day, both days included."""
    sums = [func.sum(getattr(Usage, name)) for name in COUNTED]
    groups = (Usage.key_id, Usage.model, Usage.day)
    rows = db.execute(
        select(*groups, *sums)
        .where(Usage.tenant_id == tenant_id, Usage.day >= since, Usage.day <= until)
        .group_by(*groups)
        .order_by(Usage.day, Usage.model, Usage.key_id)
    )
    return [Spent(key or None, model, day, *(int(n) for n in counts)) for key, model, day, *counts in rows]
