"""Look at files, read them, delete them."""

from dataclasses import dataclass
from typing import BinaryIO, Literal

from sqlalchemy import select

from service.actions.parts import Parts
from service.actions.wire import file_object, filled
from service.contract.callers import Caller
from service.contract.files import BATCH_OUTPUT, PURPOSES, DeletedFile, FileList, FileObject
from service.contract.ids import is_file_id
from service.contract.lifecycle import BATCH_TERMINAL
from service.errors import Conflict, NotFound
from service.store import files
from service.store.tables import Batch, File


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file and its bytes. The reader closes the stream."""

    file: FileObject
    stream: BinaryIO


def get_file(parts: Parts, caller: Caller, file_id: str) -> FileObject:
    """One file."""
    return file_object(_row(parts, caller, file_id))


def open_file(parts: Parts, caller: Caller, file_id: str) -> OpenFile:
    """One file with its bytes."""
    row = _row(parts, caller, file_id)
    return OpenFile(file_object(row), parts.blobs.open(row.blob))


def list_files(
    parts: Parts,
    caller: Caller,
    *,
    purpose: str | None = None,
    after: str | None = None,
    limit: int = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> FileList:
    """A page of files."""
    if after is not None and not is_file_id(after):
        raise unknown_file("after")
    if purpose is not None and purpose not in (*PURPOSES, BATCH_OUTPUT):
        return FileList(data=[])
    with parts.database.reading() as db:
        rows = files.page(
            db, caller.tenant_id, purpose=purpose, after=after, limit=limit + 1, newest=order == "desc"
        )
    return filled(FileList(data=[file_object(row) for row in rows[:limit]]), has_more=len(rows) > limit)


def delete_file(parts: Parts, caller: Caller, file_id: str) -> DeletedFile:
    """Forget a file, then its bytes. A manifest whose batch has not ended is kept: long lines are read from it."""
    if not is_file_id(file_id):
        raise unknown_file()
    with parts.database.transaction() as db:
        blob = files.delete(db, caller.tenant_id, file_id)
        if blob is None:
            raise unknown_file()
        if db.scalar(
            select(Batch.id).where(Batch.manifest == blob, Batch.state.not_in(BATCH_TERMINAL)).limit(1)
        ):
            raise Conflict(
                "A batch that has not ended still reads this file.",
                param="file_id",
                code="file_in_use",
                hint="Cancel the batch, or wait for its end.",
            )
    parts.blobs.delete(blob)
    return DeletedFile(id=file_id)


def _row(parts: Parts, caller: Caller, file_id: str) -> File:
    if not is_file_id(file_id):
        raise unknown_file()
    with parts.database.reading() as db:
        row = files.get(db, caller.tenant_id, file_id)
    if row is None:
        raise unknown_file()
    return row


def unknown_file(param: str = "file_id") -> NotFound:
    """Unknown, or another tenant's."""
    return NotFound("There is no file of this id.", param=param, code="file_not_found")
