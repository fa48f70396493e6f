"""A blob that was just written, until its row is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.actions.parts import Parts
from service.errors import Unavailable


@dataclass(slots=True)
class FreshBlob:
    """is_wanted: whether a row names the blob now. Another sender of the same request may have been first."""

    is_wanted: bool = False


@contextmanager
def fresh_blob(parts: Parts, key: str) -> Iterator[FreshBlob]:
    """Around the transaction that enters the blob's row: without a row the blob goes again.

    Where the database went away at the end, nobody knows whether the row is there: then the blob stays.
    """
    fresh = FreshBlob()
    try:
        yield fresh
    except Unavailable:
        raise
    except BaseException:
        parts.blobs.delete(key)
        raise
    if not fresh.is_wanted:
        parts.blobs.delete(key)
