"""Looking at files, batches and jobs: pages, and nothing of another tenant's."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from workplace import accept, prompts, states, work

from service.actions.cancel_batch import cancel_batch
from service.actions.cancel_job import cancel_job
from service.actions.export_results import export_results
from service.actions.parts import Parts
from service.actions.read_batches import get_batch, list_batches
from service.actions.read_files import delete_file, get_file, list_files, open_file
from service.actions.read_jobs import get_job, list_jobs
from service.actions.submit_job import submit_job
from service.actions.upload_file import upload_file
from service.contract.callers import Caller
from service.contract.job_objects import job_number
from service.contract.lifecycle import JobState
from service.errors import Conflict, NotFound

STRANGER = Caller("somebody")


def test_files_are_listed_in_pages(parts: Parts, caller: Caller) -> None:
    ids = [upload_file(parts, caller, [b"x"], f"{i}.png", "vision").id for i in range(5)]
    upload_file(parts, caller, [b"x"], "m.jsonl", "batch")

    first = list_files(parts, caller, purpose="vision", limit=3)
    rest = list_files(parts, caller, purpose="vision", limit=3, after=first.last_id)

    assert [file.id for file in [*first.data, *rest.data]] == ids[::-1]
    assert (first.has_more, rest.has_more) == (True, False)
    assert first.first_id == ids[-1]
    oldest = list_files(parts, caller, purpose="vision", limit=1, order="asc").data
    assert [file.id for file in oldest] == [ids[0]]


def test_a_file_is_read_back_and_deleted(parts: Parts, caller: Caller) -> None:
    file = upload_file(parts, caller, [b"he", b"llo"], "a.bin", "user_data")

    with open_file(parts, caller, file.id).stream as stream:
        assert stream.read() == b"hello"
    assert delete_file(parts, caller, file.id).deleted
    with pytest.raises(NotFound):
        get_file(parts, caller, file.id)


def test_a_manifest_is_kept_while_its_batch_needs_it(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(1))
    manifest_id = get_batch(parts, caller, batch_id).input_file_id

    with pytest.raises(Conflict):
        delete_file(parts, caller, manifest_id)
    work(parts)
    export_results(parts, batch_id)
    assert delete_file(parts, caller, manifest_id).deleted


def test_batches_are_listed_newest_first(parts: Parts, caller: Caller) -> None:
    ids = [accept(parts, prompts(1)) for _ in range(3)]

    page = list_batches(parts, caller, limit=2)

    assert [batch.id for batch in page.data] == [ids[2], ids[1]]
    assert page.has_more
    assert [batch.id for batch in list_batches(parts, caller, after=page.last_id).data] == [ids[0]]


def test_a_batchs_jobs_are_listed_by_line(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(5))

    page = list_jobs(parts, caller, batch_id=batch_id, limit=3)
    rest = list_jobs(parts, caller, batch_id=batch_id, after=page.last_id)

    assert [job.line for job in [*page.data, *rest.data]] == [1, 2, 3, 4, 5]
    assert (page.has_more, rest.has_more) == (True, False)


def test_a_job_is_waited_for(parts: Parts, caller: Caller) -> None:
    job = submit_job(parts, caller, b'{"prompt": "Hi"}')
    assert get_job(parts, caller, job.id, wait_seconds=0.1).status == "queued"

    worker = threading.Timer(0.2, work, args=[parts])
    worker.start()
    began = time.monotonic()
    ended = get_job(parts, caller, job.id, wait_seconds=20)
    worker.join()

    assert (ended.status, ended.error) == ("succeeded", None)
    assert ended.response is not None
    assert ended.usage is not None
    assert ended.usage["total_tokens"] == 5
    assert time.monotonic() - began < 15


def test_cancelling_the_last_job_ends_its_batch(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(1))
    (job,) = list_jobs(parts, caller, batch_id=batch_id).data

    assert not cancel_job(parts, STRANGER, job_number(job.id))
    assert cancel_job(parts, caller, job_number(job.id))
    assert not cancel_job(parts, caller, job_number(job.id))

    assert states(parts, batch_id) == [JobState.CANCELLED]
    assert get_batch(parts, caller, batch_id).status == "finalizing"


@pytest.mark.parametrize("look", [get_file, open_file, delete_file, get_batch, cancel_batch, get_job])
def test_what_is_anothers_does_not_exist(parts: Parts, caller: Caller, look: Callable[..., Any]) -> None:
    batch_id = accept(parts, prompts(1))
    (job,) = list_jobs(parts, caller, batch_id=batch_id).data
    names = {"file": get_batch(parts, caller, batch_id).input_file_id, "batch": batch_id, "job": job.id}

    with pytest.raises(NotFound):
        look(parts, STRANGER, names[look.__name__.rpartition("_")[2]])
    assert list_jobs(parts, STRANGER, batch_id=batch_id).data == []
    assert list_batches(parts, STRANGER).data == []
    assert list_files(parts, STRANGER).data == []
