"""How far batches are: counters in shards, one for each worker, so that workers do not wait for each other."""

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.contract.jobs import WorkerId
from service.store.database import insert_into
from service.store.tables import BatchProgress

NUM_WORKER_SHARDS = 32
# Lines that failed at ingest, sweeps and the reaper count here.
NO_WORKER_SHARD = NUM_WORKER_SHARDS

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
COUNTED = ("succeeded", "failed", "dead", "cancelled", "expired", *TOKENS)
_ADDED = ("seq", *COUNTED)
ENDED_SUM = (
    BatchProgress.succeeded
    + BatchProgress.failed
    + BatchProgress.dead
    + BatchProgress.cancelled
    + BatchProgress.expired
)


@dataclass(frozen=True, slots=True)
class Counts:
    """A batch's ended jobs by state, and the tokens of its results."""

    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def ended(self) -> int:
        """Jobs in a terminal state."""
        return self.succeeded + self.failed + self.dead + self.cancelled + self.expired


def shard_of(owner: WorkerId) -> int:
    """The shard that a worker counts in."""
    return zlib.crc32(owner.encode()) % NUM_WORKER_SHARDS


def of(db: Session, batch_id: str) -> Counts:
    """A batch's counts; the cost does not depend on its size."""
    sums = [func.coalesce(func.sum(getattr(BatchProgress, name)), 0) for name in COUNTED]
    row = db.execute(select(*sums).where(BatchProgress.batch_id == batch_id)).one()
    return Counts(*(int(value) for value in row))


def advance(db: Session, tallies: Mapping[str, Counter[str]], shard: int) -> dict[str, int]:
    """Add each batch's tally (by column name; `seq` counts new results) and return its last seq.

    The rows stay locked until the commit, which makes seq the order of commits within a shard.
    """
    added = insert_into(db, BatchProgress)
    advanced = added.on_conflict_do_update(
        index_elements=["batch_id", "shard"],
        set_={name: getattr(BatchProgress, name) + added.excluded[name] for name in _ADDED},
    ).returning(BatchProgress.seq)
    last_seqs: dict[str, int] = {}
    for batch_id in sorted(tallies):  # everybody locks in the same order
        row = {"batch_id": batch_id, "shard": shard} | {name: tallies[batch_id][name] for name in _ADDED}
        last_seqs[batch_id] = db.execute(advanced, row).scalar_one()
    return last_seqs
