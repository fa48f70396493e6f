"""Accept a manifest that is to be measured instead of run."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy.orm import Session

from service.actions.fresh_blob import fresh_blob
from service.actions.keep_lines import keep_lines
from service.actions.once import Once, make_once
from service.actions.parts import Parts
from service.actions.read_preflights import get_preflight
from service.actions.submit_batch import check_options, create_batch, manifest_file
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.endpoints import PREFLIGHT
from service.contract.preflights import CreatePreflight, PreflightObject
from service.contract.tickets import Ingest
from service.store import preflights
from service.store.tables import File

# Measuring a line costs no time of the model's, and must not wait until a million lines have been answered.
FIRST_PRIORITY = 1


def submit_preflight(
    parts: Parts, caller: Caller, wanted: CreatePreflight, *, idempotency_key: str | None = None
) -> PreflightObject:
    """Measure an uploaded manifest; the same idempotency key with the same body gives the same preflight again."""
    check_options(parts, wanted)
    once = Once(PREFLIGHT, idempotency_key, hashlib.sha256(wanted.model_dump_json().encode()).hexdigest())
    new_id = preflights.new_id()
    with parts.database.transaction() as db:
        preflight_id = make_once(db, caller, once, new_id, is_there=lambda made: _is_there(db, made))
        if preflight_id == new_id:
            file = manifest_file(db, caller, wanted.input_file_id)
            _create(parts, db, preflight_id, caller, file, wanted, wanted.sample)
    parts.doorbell.ring(Ingest(preflight_id))
    return get_preflight(parts, caller, preflight_id)


def submit_lines(
    parts: Parts,
    caller: Caller,
    chunks: Iterable[bytes],
    options: BatchOptions,
    sample: int,
    *,
    idempotency_key: str | None = None,
) -> PreflightObject:
    """Store a stream of JSONL as a file, from which a batch can be made later, and measure it."""
    check_options(parts, options)
    once = Once(f"{PREFLIGHT}#lines", idempotency_key)
    lines = keep_lines(parts, chunks, f"{sample} {options.model_dump_json()}")
    once = replace(once, body_sha256=lines.sha256)
    new_id = preflights.new_id()
    with fresh_blob(parts, lines.blob) as fresh, parts.database.transaction() as db:
        preflight_id = make_once(db, caller, once, new_id, is_there=lambda made: _is_there(db, made))
        fresh.is_wanted = preflight_id == new_id
        if fresh.is_wanted:
            file = lines.enter(db, caller, preflight_id)
            _create(parts, db, preflight_id, caller, file, options, sample)
    parts.doorbell.ring(Ingest(preflight_id))
    return get_preflight(parts, caller, preflight_id)


def _is_there(db: Session, preflight_id: str) -> bool:
    """Whether what a key made before was not deleted since."""
    return preflights.find(db, preflight_id) is not None


def _create(
    parts: Parts,
    db: Session,
    preflight_id: str,
    caller: Caller,
    file: File,
    options: BatchOptions,
    sample: int,
) -> None:
    # What else a batch may be told is about running it.
    heard = BatchOptions(priority=FIRST_PRIORITY, defaults=options.defaults, base_dir=options.base_dir)
    measured = heard.model_copy(update={"endpoint": PREFLIGHT})
    create_batch(db, preflight_id, caller, file, measured, parts.settings)
    preflights.insert(db, preflight_id, sample)
