"""A sound becomes a job with a listener; its bytes are kept for as long as somebody listens."""

from collections.abc import Iterable

import orjson

from service.actions.parts import Parts
from service.actions.start_chat import start_request
from service.actions.upload_file import plain_name
from service.contract.callers import Caller
from service.contract.endpoints import TRANSCRIBE
from service.contract.files import TRANSCRIPTION
from service.contract.transcriptions import TranscriptionRequest
from service.store import files

# Nobody listens longer than a chat may take; what is left then was left by a process that died.
SPARE_SECONDS = 600.0


def keep_sound(parts: Parts, caller: Caller, chunks: Iterable[bytes], filename: str) -> str:
    """Store a sound that is to be transcribed; returns its file id. To be forgotten by who calls this."""
    file_id = files.new_id()
    blob = f"files/{file_id}"
    size = parts.blobs.write(blob, chunks, parts.settings.max_request_bytes)
    with parts.database.transaction() as db:
        files.insert(
            db,
            caller.tenant_id,
            file_id=file_id,
            key_id=caller.key_id,
            filename=plain_name(filename),
            purpose=TRANSCRIPTION,
            num_bytes=size,
            blob=blob,
            expires_in_seconds=parts.settings.chat_timeout_seconds + SPARE_SECONDS,
        )
    return file_id


def forget_sound(parts: Parts, caller: Caller, file_id: str) -> None:
    """Delete what `keep_sound` stored."""
    with parts.database.transaction() as db:
        blob = files.delete(db, caller.tenant_id, file_id)
    if blob is not None:
        parts.blobs.delete(blob)


def start_transcription(
    parts: Parts,
    caller: Caller,
    request: TranscriptionRequest,
    *,
    streams: bool = False,
    wait_for_model: bool = False,
    path_model: str | None = None,
) -> int:
    """Store the request and ring; returns the job's id. Errors: those of `start_request`."""
    raw = orjson.dumps(request.model_dump(exclude_none=True))
    started = start_request(
        parts,
        caller,
        request.model,
        raw,
        endpoint=TRANSCRIBE,
        streams=streams,
        wait_for_model=wait_for_model,
        path_model=path_model,
    )
    return started.job_id
