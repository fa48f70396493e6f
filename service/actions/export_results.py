"""Write a closed batch's output and error files, and end the batch."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.actions.parts import Parts
from service.contract.endpoints import PREFLIGHT
from service.contract.files import BATCH_OUTPUT
from service.contract.lifecycle import JobState
from service.contract.output_lines import output_line
from service.contract.tickets import Deliver
from service.store import batches, files, progress, results
from service.store.progress import Counts
from service.store.tables import Batch

PAGE_JOBS = 500


def export_results(parts: Parts, batch_id: str) -> None:
    """Write the files in constant memory, then enter them and end the batch in one transaction.

    Ended jobs never change, so whoever is killed here, or races, has written the same bytes under the same names.
    """
    with parts.database.reading() as db:
        batch = batches.find(db, batch_id)
        counts = progress.of(db, batch_id)
    if batch is None or batch.closed_at is None or batch.state.is_terminal:
        return
    with parts.exporting.only_one(batch_id) as alone:
        if alone:
            _export(parts, batch, counts)


def _export(parts: Parts, batch: Batch, counts: Counts) -> None:
    if batch.endpoint == PREFLIGHT:
        with parts.database.transaction() as db:
            batches.complete(db, batch.id)
        return
    num_failed = counts.ended - counts.succeeded
    output = _write(parts, batch, "output", succeeded=True) if counts.succeeded else None
    errors = _write(parts, batch, "errors", succeeded=False) if num_failed else None
    with parts.database.transaction() as db:
        ended = batches.complete(
            db,
            batch.id,
            output_file_id=output.file_id if output else None,
            error_file_id=errors.file_id if errors else None,
        )
        for written in (output, errors):
            if ended and written is not None:
                _enter(db, batch, written)
    if ended:
        parts.doorbell.ring(Deliver())


@dataclass(frozen=True, slots=True)
class _Written:
    file_id: str
    filename: str
    blob: str
    num_bytes: int


def _write(parts: Parts, batch: Batch, name: str, *, succeeded: bool) -> _Written:
    blob = f"outputs/{batch.id}/{name}.jsonl"
    size = parts.blobs.write(blob, _lines(parts, batch.id, succeeded=succeeded))
    return _Written(files.new_id(), f"{batch.id}_{name}.jsonl", blob, size)


def _enter(db: Session, batch: Batch, written: _Written) -> None:
    files.insert(
        db,
        batch.tenant_id,
        file_id=written.file_id,
        key_id=batch.key_id,
        filename=written.filename,
        purpose=BATCH_OUTPUT,
        num_bytes=written.num_bytes,
        blob=written.blob,
        expires_in_seconds=batch.output_expires_seconds,
    )


def _lines(parts: Parts, batch_id: str, *, succeeded: bool) -> Iterator[bytes]:
    """The lines of one of the two files, a page at a time."""
    last_job_id = None
    while True:
        with parts.database.reading() as db:
            page = results.export_page(db, batch_id, last_job_id, PAGE_JOBS)
        if not page:
            return
        last_job_id = page[-1].job_id
        yield b"".join(output_line(job) for job in page if (job.state is JobState.SUCCEEDED) == succeeded)
