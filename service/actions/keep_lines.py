"""Keep a manifest that came as the body of a request: first its bytes, then its row."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.actions.once import StreamDigest
from service.actions.parts import Parts
from service.actions.submit_batch import MANIFEST_PURPOSE
from service.contract.callers import Caller
from service.store import files
from service.store.tables import File


@dataclass(frozen=True, slots=True)
class KeptLines:
    """Lines whose bytes are stored and whose row is still to come. sha256: of them and of what else was said."""

    file_id: str
    blob: str
    num_bytes: int
    sha256: str

    def enter(self, db: Session, caller: Caller, name: str) -> File:
        """Make a file of them, named after what they were sent for."""
        return files.insert(
            db,
            caller.tenant_id,
            file_id=self.file_id,
            key_id=caller.key_id,
            filename=f"{name}.jsonl",
            purpose=MANIFEST_PURPOSE,
            num_bytes=self.num_bytes,
            blob=self.blob,
        )


def keep_lines(parts: Parts, chunks: Iterable[bytes], said: str) -> KeptLines:
    """Store a stream of JSONL in constant memory. said: what else the request says."""
    file_id = files.new_id()
    blob = f"files/{file_id}"
    digest = StreamDigest(said.encode())
    num_bytes = parts.blobs.write(blob, digest.over(chunks), parts.settings.max_upload_bytes)
    return KeptLines(file_id, blob, num_bytes, digest.hexdigest())
