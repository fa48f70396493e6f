"""Turn a batch's manifest into jobs, in chunks: whoever is killed loses the chunk that was not committed."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.actions.close_batches import close_batches
from service.actions.ingest_retry import ingest_retry
from service.actions.known_models import known_models, unknown_model
from service.actions.parts import Parts
from service.actions.scan_manifest import scan_manifest
from service.contract.endpoints import PREFLIGHT
from service.contract.jobs import PayloadRef
from service.contract.manifest import Defaults, LineError, parse_line, too_long
from service.contract.manifest_lines import Chunk, RawLine, read_chunk
from service.contract.tickets import Deliver, Wake
from service.errors import NotFound
from service.store import batches, lines
from service.store.lines import NewLine
from service.store.tables import Batch, Job

# A chunk ends after this many bytes of manifest, however few lines those are.
CHUNK_BYTES = 16 << 20


def ingest_manifest(parts: Parts, batch_id: str) -> None:
    """Read a manifest from where the last ingester stopped to its end.

    Ingesters may race: one that finds the offset moved leaves the rest to the other.
    """
    with parts.database.reading() as db:
        batch = batches.find(db, batch_id)
        last_line = db.scalar(select(func.max(Job.line_no)).where(Job.batch_id == batch_id)) or 0
    if batch is None or batch.ingested_at is not None:
        return
    if batch.retry_of is not None:
        ingest_retry(parts, batch_id)
        return
    if batch.endpoint == PREFLIGHT:
        scan_manifest(parts, batch)
    else:
        _make_jobs(parts, batch, last_line)
    close_batches(parts, {batch_id})


def _make_jobs(parts: Parts, batch: Batch, last_line: int) -> None:
    ingest = _Ingest(parts, batch, last_line)
    try:
        stream = parts.blobs.open(batch.manifest, batch.ingest_offset)
    except NotFound:
        ingest.give_up()
    else:
        with stream:
            ingest.run(stream)


class _Ingest:
    """One ingester's way through one manifest."""

    def __init__(self, parts: Parts, batch: Batch, last_line: int) -> None:
        self._parts = parts
        self._batch = batch
        self._offset = batch.ingest_offset
        self._last_line = last_line
        self._defaults = Defaults.from_dict(batch.defaults or {}, batch.base_dir, batch.endpoint)
        self._models = known_models(parts)
        self._inline_bytes = parts.settings.inline_body_bytes

    def run(self, stream: BinaryIO) -> None:
        """Commit chunk after chunk, to the end or until somebody else does."""
        goes_on = True
        while goes_on:
            with _collector_paused():
                goes_on = self._take_chunk(stream)

    def _take_chunk(self, stream: BinaryIO) -> bool:
        """Make jobs of the next lines and wake the workers for them; whether there is more to do for us."""
        chunk = self._read(stream)
        if chunk.is_last and not chunk.lines and not self._last_line:
            self._fail("empty_manifest", "The manifest has no lines.")
            return False
        new = [self._new_line(line) for line in chunk.lines]
        if not self._commit(new, chunk.end_offset, done=chunk.is_last):
            return False
        for model in sorted({line.model for line in new if line.error is None}):
            self._parts.doorbell.ring(Wake(model))
        if not chunk.is_last:
            self._offset = chunk.end_offset
            self._last_line = chunk.lines[-1].line_no
        return not chunk.is_last

    def give_up(self) -> None:
        """The manifest is gone. The lines that became jobs are kept, and one more says what happened."""
        gone = NotFound("The manifest was deleted before all of it was read.", code="manifest_gone")
        if not self._last_line:
            self._fail(gone.code, gone.message)
        else:
            self._commit([NewLine(self._last_line + 1, error=gone)], self._offset, done=True)

    def _read(self, stream: BinaryIO) -> Chunk:
        settings = self._parts.settings
        return read_chunk(
            stream,
            offset=self._offset,
            line_no=self._last_line + 1,
            max_lines=settings.ingest_chunk_lines,
            max_bytes=CHUNK_BYTES,
            max_line_bytes=settings.max_request_bytes,
        )

    def _new_line(self, raw: RawLine) -> NewLine:
        line = self._too_long(raw) if raw.raw is None else parse_line(raw.raw, raw.line_no, self._defaults)
        if isinstance(line, LineError):
            return NewLine(raw.line_no, line.custom_id, error=line.error)
        model = self._models.get(line.model)
        if model is None:
            return NewLine(raw.line_no, line.custom_id, error=unknown_model(line.model, self._models))
        if len(line.body) > self._inline_bytes:
            # It stays in the manifest, and `load_body` reads it there as we have done here.
            where = PayloadRef(self._batch.manifest, raw.offset, raw.length)
            return NewLine(raw.line_no, line.custom_id, model, payload=where)
        return NewLine(raw.line_no, line.custom_id, model, line.body)

    def _too_long(self, raw: RawLine) -> LineError:
        return too_long(raw.line_no, raw.length, self._parts.settings.max_request_bytes)

    def _commit(self, new: list[NewLine], end_offset: int, *, done: bool) -> bool:
        with self._parts.database.transaction() as db:
            if not self._advance(db, new, end_offset, done=done):
                return False
            lines.insert_lines(db, self._batch, new)
        return True

    def _advance(self, db: Session, new: list[NewLine], end_offset: int, *, done: bool) -> bool:
        model = next((line.model for line in new if line.error is None), None)
        return batches.advance_ingest(
            db, self._batch.id, self._offset, end_offset, num_lines=len(new), done=done, model=model
        )

    def _fail(self, code: str | None, message: str) -> None:
        with self._parts.database.transaction() as db:
            batches.fail(db, self._batch.id, [{"code": code, "message": message}])
        self._parts.doorbell.ring(Deliver())


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Thousands of tuples live as long as one chunk, without cycles; the collector would walk the heap after them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
