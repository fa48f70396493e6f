"""Files whose time is over, keys that are forgotten, and what must not go with them."""

from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from workplace import prompts, states, work

from service.actions.export_results import export_results
from service.actions.forget_expired import FILES, forget_expired
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.actions.read_batches import get_batch
from service.actions.read_files import delete_file, get_file, list_files, open_file
from service.actions.recover_lost_work import recover_lost_work
from service.actions.submit_batch import submit_batch
from service.actions.submit_job import submit_job
from service.actions.upload_file import upload_file
from service.contract.batches import CreateBatch
from service.contract.callers import Caller
from service.contract.files import FileObject
from service.contract.lifecycle import JobState
from service.errors import BadRequest, KeyReused, NotFound
from service.store.tables import File, Idempotency

HOUR = 3600


def upload(parts: Parts, caller: Caller, name: str = "a.png", purpose: str = "vision") -> FileObject:
    content = prompts(2) if purpose == "batch" else [b"x"]
    return upload_file(parts, caller, content, name, purpose, expires_in_seconds=HOUR)


def elapse(parts: Parts, seconds: float) -> None:
    """Every file is that much older."""
    with parts.database.transaction() as db:
        db.execute(update(File).values(expires_at=File.expires_at - seconds))


def blobs(parts: Parts) -> list[Path]:
    folder = parts.settings.data_dir / "blobs" / "files"
    return sorted(folder.iterdir()) if folder.exists() else []


def num_rows(parts: Parts, table: type) -> int:
    with parts.database.reading() as db:
        return db.scalar(select(func.count()).select_from(table)) or 0


def test_a_file_says_when_it_goes(parts: Parts, caller: Caller) -> None:
    file = upload(parts, caller)

    assert file.expires_at == file.created_at + HOUR
    assert upload_file(parts, caller, [b"x"], "b.png", "vision").expires_at is None


def test_a_file_whose_time_is_over_is_not_there_from_that_moment_on(parts: Parts, caller: Caller) -> None:
    file, kept = upload(parts, caller), upload_file(parts, caller, [b"x"], "b.png", "vision")
    elapse(parts, HOUR)

    for look in (get_file, open_file, delete_file):
        with pytest.raises(NotFound):
            look(parts, caller, file.id)
    assert [listed.id for listed in list_files(parts, caller).data] == [kept.id]


def test_no_batch_is_made_of_a_manifest_whose_time_is_over(parts: Parts, caller: Caller) -> None:
    file = upload(parts, caller, purpose="batch")
    elapse(parts, HOUR)

    with pytest.raises(NotFound):
        submit_batch(parts, caller, CreateBatch(input_file_id=file.id))


def test_the_row_and_the_bytes_go_with_the_next_rounds(parts: Parts, caller: Caller) -> None:
    for number in range(FILES + 1):
        upload(parts, caller, f"{number}.png")
    kept = upload_file(parts, caller, [b"x"], "b.png", "vision")
    elapse(parts, HOUR + 120)

    forget_expired(parts)
    assert num_rows(parts, File) == len(blobs(parts)) == 2
    recover_lost_work(parts)
    assert num_rows(parts, File) == len(blobs(parts)) == 1
    assert get_file(parts, caller, kept.id) == kept


def test_whoever_found_a_file_just_in_time_still_has_its_bytes(parts: Parts, caller: Caller) -> None:
    upload(parts, caller)
    elapse(parts, HOUR + 30)
    forget_expired(parts)

    assert num_rows(parts, File) == len(blobs(parts)) == 1


def test_a_manifest_stays_until_its_batch_has_ended(parts: Parts, caller: Caller) -> None:
    file = upload(parts, caller, purpose="batch")
    batch_id = submit_batch(parts, caller, CreateBatch(input_file_id=file.id)).id
    elapse(parts, HOUR + 120)
    forget_expired(parts)
    assert len(blobs(parts)) == 1
    ingest_manifest(parts, batch_id)
    work(parts)
    forget_expired(parts)
    assert len(blobs(parts)) == 1
    export_results(parts, batch_id)
    assert states(parts, batch_id) == [JobState.SUCCEEDED] * 2
    forget_expired(parts)
    assert blobs(parts) == []


def test_the_files_of_a_batch_go_when_it_asked_for_it(parts: Parts, caller: Caller) -> None:
    file = upload(parts, caller, purpose="batch")
    wanted = {"input_file_id": file.id, "output_expires_after": {"anchor": "created_at", "seconds": 2 * HOUR}}
    batch_id = submit_batch(parts, caller, CreateBatch.model_validate(wanted)).id
    ingest_manifest(parts, batch_id)
    work(parts)
    export_results(parts, batch_id)

    output = get_batch(parts, caller, batch_id).output_file_id
    assert output is not None
    told = get_file(parts, caller, output)
    assert told.expires_at == told.created_at + 2 * HOUR


@pytest.mark.parametrize("seconds", [3599, 30 * 24 * HOUR + 1, 3600.5, "3600", None])
def test_a_batch_whose_files_would_go_too_soon_or_too_late_is_refused(seconds: object) -> None:
    with pytest.raises(ValueError, match="output_expires_after"):
        CreateBatch.model_validate(
            {"input_file_id": "file-1", "output_expires_after": {"anchor": "created_at", "seconds": seconds}}
        )


def test_an_upload_that_is_sent_again_with_its_key_is_one_file(parts: Parts, caller: Caller) -> None:
    def send(content: bytes, name: str = "a.png", purpose: str = "vision") -> str:
        return upload_file(parts, caller, [content], name, purpose, idempotency_key="k").id

    first = send(b"x")
    assert send(b"x") == first
    assert len(blobs(parts)) == 1
    for other in ((b"y",), (b"x", "b.png"), (b"x", "a.png", "user_data")):
        with pytest.raises(KeyReused):
            send(*other)
    assert len(blobs(parts)) == 1
    delete_file(parts, caller, first)
    assert send(b"x") != first  # what the key made is gone, so it is made anew
    assert len(blobs(parts)) == 1


def test_an_empty_upload_is_refused_and_leaves_nothing(parts: Parts, caller: Caller) -> None:
    with pytest.raises(BadRequest) as refusal:
        upload_file(parts, caller, [], "a.png", "vision")
    assert (refusal.value.param, refusal.value.code) == ("file", "empty_file")
    assert blobs(parts) == []
    assert num_rows(parts, File) == 0


def test_keys_are_forgotten_after_a_day_and_not_before(parts: Parts, caller: Caller) -> None:
    first = submit_job(parts, caller, b'{"prompt": "Hi"}', idempotency_key="k")
    forget_expired(parts)
    assert submit_job(parts, caller, b'{"prompt": "Hi"}', idempotency_key="k").id == first.id
    with parts.database.transaction() as db:
        aged = Idempotency.created_at - parts.settings.idempotency_seconds
        db.execute(update(Idempotency).values(created_at=aged))
    forget_expired(parts)
    assert num_rows(parts, Idempotency) == 0
    assert submit_job(parts, caller, b'{"prompt": "Ho"}', idempotency_key="k").id != first.id
