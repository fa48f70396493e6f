"""Count a preflight's manifest in one go, and make jobs of the lines that are to be measured."""

import time
from collections.abc import Mapping
from typing import BinaryIO

from service.actions.known_models import known_models, unknown_model
from service.actions.parts import Parts
from service.contract.jobs import PayloadRef
from service.contract.manifest import Defaults, LineError, ManifestLine, parse_line, too_long
from service.contract.manifest_lines import RawLine, read_chunk
from service.contract.manifest_tally import ManifestTally
from service.contract.tickets import Wake
from service.errors import NotFound
from service.store import batches, lines, preflights
from service.store.lines import NewLine
from service.store.tables import Batch

CHUNK_LINES, CHUNK_BYTES = 2000, 16 << 20
# How often a scan says that it goes on, and hears that it should not.
SIGN_SECONDS = 2.0


def scan_manifest(parts: Parts, batch: Batch) -> None:
    """Count the lines and queue the sample. Whoever is killed here leaves nothing, and another begins again."""
    with parts.database.reading() as db:
        preflight = preflights.find(db, batch.id)
    if preflight is None:
        return
    scan = _Scan(parts, batch, ManifestTally(preflight.sample, batch.id))
    try:
        stream = parts.blobs.open(batch.manifest)
    except NotFound as gone:
        scan.fail("manifest_gone", gone.message)
        return
    with stream:
        end_offset = scan.run(stream)
    if end_offset is not None:
        scan.commit(end_offset)


class _Scan:
    """One way through one manifest."""

    def __init__(self, parts: Parts, batch: Batch, tally: ManifestTally) -> None:
        self._parts = parts
        self._batch = batch
        self._tally = tally
        self._defaults = Defaults.from_dict(batch.defaults or {}, batch.base_dir)
        self._models: Mapping[str, str] = known_models(parts)
        self._sign_at = 0.0

    def run(self, stream: BinaryIO) -> int | None:
        """Count to the end; returns the manifest's length, or None if the scan is not wanted any more."""
        offset, line_no = 0, 1
        while self._goes_on():
            chunk = read_chunk(
                stream,
                offset=offset,
                line_no=line_no,
                max_lines=CHUNK_LINES,
                max_bytes=CHUNK_BYTES,
                max_line_bytes=self._parts.settings.max_request_bytes,
            )
            for raw in chunk.lines:
                self._count(raw)
            offset = chunk.end_offset
            if chunk.is_last:
                return offset
            line_no = chunk.lines[-1].line_no + 1
        return None

    def commit(self, end_offset: int) -> None:
        """Keep what was counted and queue the sample; nothing if somebody else did, or the preflight was cancelled."""
        if not self._tally.num_lines:
            self.fail("empty_manifest", "The manifest has no lines.")
            return
        sample = [
            # A body stays in the manifest, where `load_body` reads it as we have done here.
            NewLine(
                each.line_no,
                each.custom_id,
                each.model,
                payload=PayloadRef(self._batch.manifest, each.offset, each.length),
            )
            for each in self._tally.sample
        ]
        with self._parts.database.transaction() as db:
            if not batches.advance_ingest(
                db, self._batch.id, 0, end_offset, num_lines=len(sample), done=True
            ):
                return
            preflights.keep_scan(db, self._batch.id, self._tally.as_dict())
            lines.insert_lines(db, self._batch, sample)
        for model in sorted({line.model for line in sample}):
            self._parts.doorbell.ring(Wake(model))

    def fail(self, code: str, message: str) -> None:
        """End a preflight whose manifest as a whole cannot be used."""
        with self._parts.database.transaction() as db:
            batches.fail(db, self._batch.id, [{"code": code, "message": message}])

    def _goes_on(self) -> bool:
        if time.monotonic() < self._sign_at:
            return True
        with self._parts.database.transaction() as db:
            goes_on = preflights.goes_on(db, self._batch.id)
        self._sign_at = time.monotonic() + SIGN_SECONDS
        return goes_on

    def _count(self, raw: RawLine) -> None:
        if raw.raw is None:
            line: ManifestLine | LineError = too_long(
                raw.line_no, raw.length, self._parts.settings.max_request_bytes
            )
        else:
            line = parse_line(raw.raw, raw.line_no, self._defaults)
        if isinstance(line, LineError):
            self._tally.refuse(raw.line_no, line.error)
        elif (model := self._models.get(line.model)) is None:
            self._tally.refuse(raw.line_no, unknown_model(line.model, self._models))
        else:
            self._tally.take(line, model, raw.offset, raw.length)
