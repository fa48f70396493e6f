"""Accept an uploaded manifest for processing."""

import hashlib
from pathlib import Path

from sqlalchemy.orm import Session

from service.actions.known_models import known_models, unknown_model
from service.actions.once import Once, make_once
from service.actions.parts import Parts
from service.actions.read_batches import get_batch
from service.actions.read_files import unknown_file
from service.contract.batches import BatchObject, BatchOptions, CreateBatch
from service.contract.callers import Caller
from service.contract.ids import is_file_id
from service.contract.manifest import Defaults
from service.contract.tickets import Ingest
from service.errors import BadRequest
from service.settings import Settings
from service.store import batches, files
from service.store.batches import NewBatch
from service.store.tables import File

ROUTE = "/v1/batches"
MANIFEST_PURPOSE = "batch"


def submit_batch(
    parts: Parts, caller: Caller, wanted: CreateBatch, *, idempotency_key: str | None = None
) -> BatchObject:
    """Make a batch from a file; the same idempotency key with the same body gives the same batch again."""
    check_options(parts, wanted)
    body_sha256 = hashlib.sha256(wanted.model_dump_json().encode()).hexdigest()
    once = Once(ROUTE, idempotency_key, body_sha256)
    new_id = batches.new_id()
    with parts.database.transaction() as db:
        batch_id = make_once(db, caller, once, new_id)
        if batch_id == new_id:
            file = manifest_file(db, caller, wanted.input_file_id)
            create_batch(db, batch_id, caller, file, wanted, parts.settings)
    parts.doorbell.ring(Ingest(batch_id))
    return get_batch(parts, caller, batch_id)


def check_options(parts: Parts, options: BatchOptions) -> None:
    """Refuse defaults that no line could use, and a folder that this server may not read."""
    defaults = Defaults.from_dict(options.defaults, _checked_folder(options.base_dir, parts.settings))
    known = known_models(parts)
    if (model := defaults.fields.get("model")) is not None and model not in known:
        raise unknown_model(model, known, param="defaults.model")


def create_batch(
    db: Session, batch_id: str, caller: Caller, file: File, options: BatchOptions, settings: Settings
) -> None:
    """Insert a batch over a stored manifest, to be ingested from its beginning."""
    window_seconds = options.window_seconds or settings.batch_window_seconds
    batches.create(
        db,
        NewBatch(
            tenant_id=caller.tenant_id,
            key_id=caller.key_id,
            manifest=file.blob,
            endpoint=options.endpoint,
            model=options.defaults.get("model"),
            priority=options.priority,
            base_dir=_checked_folder(options.base_dir, settings),
            defaults=options.defaults or None,
            input_file_id=file.id,
            completion_window=options.completion_window or f"{window_seconds // 3600}h",
            window_seconds=window_seconds,
            metadata=options.metadata,
            output_expires_seconds=options.output_expires_seconds,
            token_budget=options.token_budget,
            dedupe=options.dedupe,
        ),
        batch_id,
    )


def manifest_file(db: Session, caller: Caller, file_id: str) -> File:
    """A caller's uploaded manifest; NotFound or BadRequest if the file is none."""
    file = files.get(db, caller.tenant_id, file_id) if is_file_id(file_id) else None
    if file is None:
        raise unknown_file("input_file_id")
    if file.purpose != MANIFEST_PURPOSE:
        raise BadRequest(
            f"The file was uploaded for {file.purpose!r}; a manifest's purpose is 'batch'.",
            param="input_file_id",
            hint="Upload it again with purpose=batch.",
        )
    return file


def _checked_folder(base_dir: str | None, settings: Settings) -> str | None:
    if base_dir is None:
        return None
    folder = Path(base_dir)
    if not folder.is_absolute() or "\0" in base_dir:
        raise BadRequest("`base_dir` must be an absolute path.", param="base_dir")
    resolved = folder.resolve()
    if not any(resolved.is_relative_to(root) for root in settings.allowed_roots):
        raise BadRequest(
            "`base_dir` is not inside a folder that this server may read.",
            param="base_dir",
            code="base_dir_not_allowed",
            hint="Start the server with --allow-files DIR, or upload the media and name files by id.",
        )
    return str(resolved)
