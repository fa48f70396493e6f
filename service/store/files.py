"""Files: what tenants uploaded, and what we wrote for them. The bytes are blobs."""

import secrets
from collections.abc import Sequence

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_row
from sqlalchemy.orm import Session

from service.contract.files import TRANSCRIPTION
from service.contract.lifecycle import BATCH_OPEN
from service.store.database import database_now
from service.store.paging import newest_first, oldest_first
from service.store.tables import Batch, File

# Whoever still found a file before its time was over has this long to say what for.
GRACE_SECONDS = 60.0


def new_id() -> str:
    """A fresh file id."""
    return f"file-{secrets.token_hex(12)}"


def insert(
    db: Session,
    tenant_id: str,
    *,
    filename: str,
    purpose: str,
    num_bytes: int,
    blob: str,
    key_id: str | None = None,
    expires_in_seconds: float | None = None,
    file_id: str | None = None,
) -> File:
    """Enter a file whose blob has been written."""
    now = database_now()
    row = insert_row(File).values(
        id=file_id or new_id(),
        tenant_id=tenant_id,
        key_id=key_id,
        filename=filename,
        purpose=purpose,
        num_bytes=num_bytes,
        blob=blob,
        created_at=now,
        expires_at=None if expires_in_seconds is None else now + expires_in_seconds,
    )
    return db.scalars(row.returning(File)).one()


def get(db: Session, tenant_id: str, file_id: str) -> File | None:
    """A tenant's file, until its time is over."""
    return db.scalar(select(File).where(File.id == file_id, File.tenant_id == tenant_id, _is_there()))


def page(
    db: Session,
    tenant_id: str,
    *,
    purpose: str | None = None,
    after: str | None = None,
    limit: int = 100,
    newest: bool = True,
) -> Sequence[File]:
    """A tenant's files by age. after: the last id seen."""
    shown = [File.tenant_id == tenant_id, File.purpose != TRANSCRIPTION, _is_there()]
    files = select(File).where(*shown).limit(limit)
    if purpose is not None:
        files = files.where(File.purpose == purpose)
    ordered = newest_first(files, File, after) if newest else oldest_first(files, File, after)
    return db.scalars(ordered).all()


def delete(db: Session, tenant_id: str, file_id: str) -> str | None:
    """Forget a tenant's file; returns its blob, to be deleted after the commit, or None if there is no such file."""
    gone = delete_from(File).where(File.id == file_id, File.tenant_id == tenant_id, _is_there())
    return db.scalar(gone.returning(File.blob))


def any_expired(db: Session) -> bool:
    """Whether there is something to forget."""
    return db.scalar(select(File.id).where(*_expired()).limit(1)) is not None


def forget_expired(db: Session, limit: int) -> list[str]:
    """Forget up to `limit` files whose time is over; returns their blobs, to be deleted after the commit."""
    expired = select(File.id).where(*_expired()).order_by(File.expires_at).limit(limit)
    gone = delete_from(File).where(File.id.in_(expired)).returning(File.blob)
    return list(db.scalars(gone.execution_options(synchronize_session=False)))


def _is_there() -> ColumnElement[bool]:
    return or_(File.expires_at.is_(None), File.expires_at > database_now())


def _expired() -> list[ColumnElement[bool]]:
    """A manifest that a batch still reads is kept until the batch has ended."""
    still_read = select(Batch.manifest).where(Batch.state.in_(BATCH_OPEN))
    return [File.expires_at < database_now() - GRACE_SECONDS, File.blob.not_in(still_read)]
