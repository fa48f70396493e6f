"""Usage: who spent how many tokens, written in the transaction that writes the result."""

import datetime
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.contract.endpoints import WITHOUT_ENGINE
from service.contract.jobs import Succeeded
from service.store.database import AnyRow, insert_into
from service.store.tables import Usage

COUNTED = ("requests", "prompt_tokens", "completion_tokens", "image_tokens", "video_tokens", "audio_tokens")
GROUPS = ("key_id", "model", "day")


@dataclass(frozen=True, slots=True)
class Spent:
    """What one key spent on one model on one day (UTC); None where nobody asked by which.

    key_id: None too where no key was used.
    """

    key_id: str | None
    model: str | None
    day: datetime.date | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int


def add(db: Session, replies: Iterable[Succeeded], *, now: float, shard: int) -> None:
    """Count replies that a model has computed. now: the database's seconds since 1970, which give the day."""
    day = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
    sums: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for reply in replies:
        if reply.job.endpoint in WITHOUT_ENGINE:
            continue
        spent = sums[reply.job.tenant_id, reply.job.key_id or "", reply.job.model]
        spent["requests"] += 1
        for name in COUNTED[1:]:
            spent[name] += getattr(reply.spent, name)
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


def of(
    db: Session,
    tenant_id: str,
    *,
    since: datetime.date,
    until: datetime.date,
    group_by: Collection[str] = GROUPS,
) -> list[Spent]:
    """A tenant's usage by some of GROUPS, oldest day first. since, until: both days included."""
    groups = [getattr(Usage, name) for name in reversed(GROUPS) if name in group_by]
    sums = [func.sum(getattr(Usage, name)).label(name) for name in COUNTED]
    mine = [Usage.tenant_id == tenant_id, Usage.day >= since, Usage.day <= until]
    grouped = select(*groups, *sums).where(*mine).group_by(*groups).order_by(*groups)
    # Without a group there is one row, and nothing in it where nothing was spent.
    return [_spent(row) for row in db.execute(grouped.having(func.count() > 0))]


def _spent(row: AnyRow) -> Spent:
    found = row._asdict()
    return Spent(
        found.get("key_id") or None,
        found.get("model"),
        found.get("day"),
        *(int(found[name]) for name in COUNTED),
    )
