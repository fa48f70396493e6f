"""A request about tokens leaves nothing behind: a text of a megabyte has more tokens than a database should keep."""

from service.actions.parts import Parts
from service.store import asides


def forget_count(parts: Parts, job_id: int) -> None:
    """Delete a request that has been answered, and where it lies beside the database, its body."""
    with parts.database.transaction() as db:
        blob = asides.forget(db, job_id)
    if blob is not None:
        parts.blobs.delete(blob)
