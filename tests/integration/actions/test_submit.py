"""What is accepted, and that sending it twice makes one of it."""

from pathlib import Path
from typing import Any

import pytest
from workplace import manifest, prompts, rows

from service.actions.parts import Parts, assemble
from service.actions.read_files import list_files
from service.actions.read_jobs import list_jobs
from service.actions.submit_batch import submit_batch
from service.actions.submit_job import submit_job
from service.actions.submit_jobs import submit_jobs
from service.actions.upload_file import upload_file
from service.contract.batches import BatchOptions, CreateBatch
from service.contract.callers import Caller
from service.errors import BadRequest, KeyReused, NotFound, SluiceError, TooLarge, UnknownModel
from service.settings import Settings


@pytest.fixture
def file_id(parts: Parts, caller: Caller) -> str:
    return upload_file(parts, caller, prompts(3), "my/../prompts.jsonl", "batch").id


def create(file_id: str, **options: Any) -> CreateBatch:
    return CreateBatch(input_file_id=file_id, **options)


def test_a_batch_waits_to_be_read(parts: Parts, caller: Caller, file_id: str) -> None:
    batch = submit_batch(
        parts, caller, create(file_id, completion_window="2d", metadata={"a": "b"}, priority=4)
    )

    assert (batch.status, batch.input_file_id, batch.priority) == ("validating", file_id, 4)
    assert (batch.completion_window, batch.metadata) == ("2d", {"a": "b"})
    assert batch.expires_at is not None
    assert batch.expires_at - batch.created_at in (2 * 86400, 2 * 86400 + 1)


def test_the_same_key_and_body_give_the_same_batch(parts: Parts, caller: Caller, file_id: str) -> None:
    first = submit_batch(parts, caller, create(file_id), idempotency_key="k")
    again = submit_batch(parts, caller, create(file_id), idempotency_key="k")

    assert again.id == first.id
    with pytest.raises(KeyReused):
        submit_batch(parts, caller, create(file_id, priority=3), idempotency_key="k")
    assert submit_batch(parts, caller, create(file_id), idempotency_key="other").id != first.id


def test_the_same_key_and_lines_give_the_same_batch_and_one_file(parts: Parts, caller: Caller) -> None:
    first = submit_jobs(parts, caller, prompts(3), BatchOptions(), idempotency_key="k")
    again = submit_jobs(parts, caller, iter([b"".join(prompts(3))]), BatchOptions(), idempotency_key="k")

    assert again == first
    assert [file.id for file in list_files(parts, caller).data] == [first.input_file_id]
    assert len(list((parts.settings.data_dir / "blobs" / "files").iterdir())) == 1
    with pytest.raises(KeyReused):
        submit_jobs(parts, caller, prompts(4), BatchOptions(), idempotency_key="k")
    assert len(list((parts.settings.data_dir / "blobs" / "files").iterdir())) == 1


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(settings: Settings, caller: Caller) -> None:
    parts = assemble(settings.model_copy(update={"max_upload_bytes": 10}))

    with pytest.raises(TooLarge):
        upload_file(parts, caller, [b"x" * 11], "a.jsonl", "batch")
    assert list_files(parts, caller).data == []
    parts.close()


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        ({"defaults": {"model": "nobody"}}, UnknownModel, "defaults.model"),
        ({"defaults": {"colour": "red"}}, BadRequest, "defaults.colour"),
        ({"base_dir": "/etc"}, BadRequest, "base_dir"),
        ({"base_dir": "here"}, BadRequest, "base_dir"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(
    parts: Parts, caller: Caller, file_id: str, options: dict[str, Any], error: type[SluiceError], param: str
) -> None:
    with pytest.raises(error) as refusal:
        submit_batch(parts, caller, create(file_id, **options))
    assert refusal.value.param == param


def test_relative_paths_may_start_inside_an_allowed_root_only(
    settings: Settings, caller: Caller, tmp_path: Path
) -> None:
    root = tmp_path / "media"
    (root / "deep").mkdir(parents=True)
    (root / "escape").symlink_to("/etc")
    parts = assemble(settings.model_copy(update={"allow_files": str(root)}))

    submit_jobs(parts, caller, prompts(1), BatchOptions(base_dir=str(root / "deep")))
    for outside in (root / "escape", root / "deep/../../other", tmp_path):
        with pytest.raises(BadRequest):
            submit_jobs(parts, caller, prompts(1), BatchOptions(base_dir=str(outside)))
    parts.close()


def test_a_file_of_another_tenant_or_purpose_is_no_manifest(
    parts: Parts, caller: Caller, file_id: str
) -> None:
    with pytest.raises(NotFound):
        submit_batch(parts, Caller("somebody"), create(file_id))
    image = upload_file(parts, caller, [b"x"], "a.png", "vision")
    with pytest.raises(BadRequest) as refusal:
        submit_batch(parts, caller, create(image.id))
    assert refusal.value.param == "input_file_id"


def test_a_single_job_may_be_anything_that_stands_on_a_line(parts: Parts, caller: Caller) -> None:
    short, full = manifest(
        {"id": "mine", "prompt": "Hi"}, {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    )

    job = submit_job(parts, caller, short)
    assert (job.status, job.model, job.custom_id, job.batch_id) == ("queued", "tiny", "mine", None)
    assert submit_job(parts, caller, full).custom_id is None


def test_a_single_job_is_read_in_full_before_it_is_accepted(parts: Parts, caller: Caller) -> None:
    with pytest.raises(BadRequest) as refusal:
        submit_job(parts, caller, b'{"prompt": "Hi", "max_tokens": 0}')
    assert refusal.value.param == "max_tokens"
    with pytest.raises(UnknownModel):
        submit_job(parts, caller, b'{"prompt": "Hi", "model": "nobody"}')


def test_the_same_key_and_request_give_the_same_job(parts: Parts, caller: Caller) -> None:
    first = submit_job(parts, caller, b'{"prompt": "Hi"}', idempotency_key="k")

    assert submit_job(parts, caller, b'{"prompt": "Hi"}', idempotency_key="k").id == first.id
    assert [job.id for job in list_jobs(parts, caller).data] == [first.id]
    with pytest.raises(KeyReused):
        submit_job(parts, caller, b'{"prompt": "Ho"}', idempotency_key="k")
    with pytest.raises(BadRequest):
        submit_job(parts, caller, b'{"prompt": "Hi"}', idempotency_key="")


def test_a_names_folders_are_not_kept(parts: Parts, caller: Caller) -> None:
    file = upload_file(parts, caller, [b"x"], "..\\..\\evil\r\n/na\tme\u202e.png", "vision")

    assert file.filename == "name.png"
    assert rows(parts, "batch_none") == []
