"""Keep an upload: first its bytes, durably, then its row."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from service.actions.fresh_blob import fresh_blob
from service.actions.once import Once, StreamDigest, make_once
from service.actions.parts import Parts
from service.actions.wire import file_object
from service.contract.callers import Caller
from service.contract.files import PURPOSES, FileObject
from service.errors import BadRequest
from service.store import files

ROUTE = "/v1/files"
MAX_NAME_CHARACTERS = 255


def upload_file(
    parts: Parts,
    caller: Caller,
    chunks: Iterable[bytes],
    filename: str,
    purpose: str,
    *,
    expires_in_seconds: int | None = None,
    idempotency_key: str | None = None,
) -> FileObject:
    """Store a stream of bytes as a file of the caller's, in constant memory.

    The same idempotency key with the same bytes, name, purpose and expiry gives the same file again.
    """
    if purpose not in PURPOSES:
        raise BadRequest(f"`purpose` must be one of {', '.join(PURPOSES)}.", param="purpose")
    once = Once(ROUTE, idempotency_key)
    new_id, name = files.new_id(), plain_name(filename)
    blob = f"files/{new_id}"
    digest = StreamDigest(f"{purpose}\n{name}\n{expires_in_seconds}\n".encode())
    size = parts.blobs.write(blob, _not_empty(digest.over(chunks)), parts.settings.max_upload_bytes)
    once = replace(once, body_sha256=digest.hexdigest())
    with fresh_blob(parts, blob) as fresh, parts.database.transaction() as db:
        file_id = make_once(
            db,
            caller,
            once,
            new_id,
            is_there=lambda known: files.get(db, caller.tenant_id, known) is not None,
        )
        fresh.is_wanted = file_id == new_id
        if fresh.is_wanted:
            files.insert(
                db,
                caller.tenant_id,
                file_id=file_id,
                key_id=caller.key_id,
                filename=name,
                purpose=purpose,
                num_bytes=size,
                blob=blob,
                expires_in_seconds=expires_in_seconds,
            )
        row = files.get(db, caller.tenant_id, file_id)
    assert row is not None
    return file_object(row)


def _not_empty(chunks: Iterable[bytes]) -> Iterator[bytes]:
    is_empty = True
    for chunk in chunks:
        is_empty = is_empty and not chunk
        yield chunk
    if is_empty:
        raise BadRequest("The file is empty.", param="file", code="empty_file")


def plain_name(filename: str) -> str:
    """A file's name without folders or control characters: it comes from a stranger and goes into headers."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(character for character in name if character.isprintable())
    return kept[:MAX_NAME_CHARACTERS] or "upload"
