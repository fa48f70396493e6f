"""Keep an upload: first its bytes, durably, then its row."""

from collections.abc import Iterable

from service.actions.parts import Parts
from service.actions.wire import file_object
from service.contract.callers import Caller
from service.contract.files import PURPOSES, FileObject
from service.errors import BadRequest
from service.store import files

MAX_NAME_CHARACTERS = 255


def upload_file(
    parts: Parts, caller: Caller, chunks: Iterable[bytes], filename: str, purpose: str
) -> FileObject:
    """Store a stream of bytes as a file of the caller's, in constant memory."""
    if purpose not in PURPOSES:
        raise BadRequest(f"`purpose` must be one of {', '.join(PURPOSES)}.", param="purpose")
    file_id = files.new_id()
    blob = f"files/{file_id}"
    size = parts.blobs.write(blob, chunks, parts.settings.max_upload_bytes)
    with parts.database.transaction() as db:
        row = files.insert(
            db,
            caller.tenant_id,
            file_id=file_id,
            key_id=caller.key_id,
            filename=plain_name(filename),
            purpose=purpose,
            num_bytes=size,
            blob=blob,
        )
    return file_object(row)


def plain_name(filename: str) -> str:
    """A file's name without folders or control characters: it comes from a stranger and goes into headers."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(character for character in name if character.isprintable())
    return kept[:MAX_NAME_CHARACTERS] or "upload"
