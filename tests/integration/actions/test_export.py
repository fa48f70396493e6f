"""A batch's files: exactly one line for every job, in OpenAI's shape, however often they are written."""

import multiprocessing
import os
import signal
from typing import Any

import orjson
import pytest
from workplace import accept, manifest, prompts, refuse, reply, states, work

from service.actions.cancel_batch import cancel_batch
from service.actions.close_batches import close_batches
from service.actions.export_results import export_results
from service.actions.parts import Parts, assemble
from service.actions.read_batches import get_batch
from service.actions.read_files import list_files, open_file
from service.actions.recover_lost_work import recover_lost_work
from service.channels.blobs import Blobs
from service.contract.batches import BatchObject
from service.contract.callers import Caller
from service.contract.jobs import ClaimedJob, Outcome
from service.contract.lifecycle import JobState
from service.errors import BadRequest, Conflict
from service.settings import Settings
from service.store import batches
from service.store.tables import Batch

FORK = multiprocessing.get_context("fork")
SUCCEEDED, CANCELLED, EXPIRED = JobState.SUCCEEDED, JobState.CANCELLED, JobState.EXPIRED


def exported(parts: Parts, batch_id: str) -> BatchObject:
    export_results(parts, batch_id)
    return get_batch(parts, Caller(), batch_id)


def lines_of(parts: Parts, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    opened = open_file(parts, Caller(), file_id)
    with opened.stream as stream:
        data = stream.read()
    assert opened.file.bytes == len(data)
    assert opened.file.purpose == "batch_output"
    return [orjson.loads(line) for line in data.splitlines()]


def refuse_odd(job: ClaimedJob) -> Outcome:
    if (job.line_no or 0) % 2:
        return refuse(job, BadRequest("No.", param="messages", hint="Say it nicely."))
    return reply(job)


def test_replies_and_errors_go_to_files_of_their_own(parts: Parts) -> None:
    batch_id = accept(parts, [*prompts(4), b"{bad\n"])
    work(parts, answer=refuse_odd)

    batch = exported(parts, batch_id)

    assert (batch.status, batch.completed_at is not None) == ("completed", True)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 2, 3)
    assert (batch.usage.input_tokens, batch.usage.output_tokens, batch.usage.total_tokens) == (6, 4, 10)
    output, errors = lines_of(parts, batch.output_file_id), lines_of(parts, batch.error_file_id)
    assert [line["custom_id"] for line in output] == ["p1", "p3"]
    assert output[0]["response"]["status_code"] == 200
    assert output[0]["response"]["body"]["id"].startswith("chatcmpl-")
    assert output[0]["error"] is None
    assert [line["custom_id"] for line in errors] == ["p0", "p2", "line-5"]
    refused = errors[0]["response"]
    assert refused["status_code"] == 400
    assert refused["body"]["error"] == {
        "message": "No.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "invalid_value",
        "retryable": False,
        "hint": "Say it nicely.",
        "line": 1,
    }
    assert errors[2]["response"]["body"]["error"]["line"] == 5


def test_a_batch_without_failures_has_no_error_file(parts: Parts) -> None:
    batch_id = accept(parts, prompts(3))
    work(parts)

    batch = exported(parts, batch_id)

    assert batch.error_file_id is None
    assert len(lines_of(parts, batch.output_file_id)) == 3


def test_a_batch_is_not_exported_before_its_last_job_has_ended(parts: Parts) -> None:
    batch_id = accept(parts, prompts(3))
    work(parts, limit=2)

    assert exported(parts, batch_id).status == "in_progress"


def test_exporting_again_changes_nothing(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(3))
    work(parts)
    first = exported(parts, batch_id)
    files = list_files(parts, caller)

    assert exported(parts, batch_id) == first
    assert list_files(parts, caller) == files


def test_a_batch_longer_than_a_page_is_exported_whole(parts: Parts) -> None:
    batch_id = accept(parts, prompts(1203))
    work(parts, limit=2000)

    written = lines_of(parts, exported(parts, batch_id).output_file_id)

    assert [line["custom_id"] for line in written] == [f"p{i}" for i in range(1203)]


def test_a_cancelled_batch_exports_what_it_has(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(5))
    work(parts, limit=2)

    cancel_batch(parts, caller, batch_id)
    batch = exported(parts, batch_id)

    assert states(parts, batch_id) == [SUCCEEDED] * 2 + [CANCELLED] * 3
    assert (batch.status, batch.cancelled_at is not None) == ("cancelled", True)
    assert len(lines_of(parts, batch.output_file_id)) == 2
    for line in lines_of(parts, batch.error_file_id):
        assert line["response"] is None
        assert line["error"]["code"] == "batch_cancelled"
    assert cancel_batch(parts, caller, batch_id).status == "cancelled"


def test_a_finished_batch_cannot_be_cancelled(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(1))
    work(parts)
    exported(parts, batch_id)

    with pytest.raises(Conflict):
        cancel_batch(parts, caller, batch_id)


def test_what_did_not_run_in_time_expires(parts: Parts) -> None:
    batch_id = accept(parts, prompts(3))
    work(parts, limit=1)
    with parts.database.transaction() as db:
        db.get_one(Batch, batch_id).expires_at = 1.0

    recover_lost_work(parts)
    batch = exported(parts, batch_id)

    assert states(parts, batch_id) == [SUCCEEDED, EXPIRED, EXPIRED]
    assert (batch.status, batch.request_counts.expired) == ("expired", 2)
    assert lines_of(parts, batch.error_file_id)[0]["error"]["code"] == "batch_expired"


def export_and_die(settings: Settings, batch_id: str, owner: Any, name: str, nth: int) -> None:
    real, calls = getattr(owner, name), 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        answer = real(*args, **kwargs)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, deadly)
    export_results(assemble(settings), batch_id)


@pytest.mark.parametrize(
    ("owner", "name", "nth"),
    [(Blobs, "_fill", 1), (Blobs, "write", 1), (Blobs, "write", 2), (batches, "complete", 1)],
    ids=["before a file is whole", "between the files", "before the commit", "inside the commit"],
)
def test_a_killed_export_is_written_again_and_entered_once(
    settings: Settings, parts: Parts, caller: Caller, owner: Any, name: str, nth: int
) -> None:
    batch_id = accept(parts, prompts(30))
    work(parts, answer=refuse_odd)
    parts.database.close()

    child = FORK.Process(target=export_and_die, args=(settings, batch_id, owner, name, nth))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert list_files(parts, caller, purpose="batch_output").data == []

    batch = exported(parts, batch_id)
    assert batch.status == "completed"
    assert len(lines_of(parts, batch.output_file_id)) == len(lines_of(parts, batch.error_file_id)) == 15
    assert len(list_files(parts, caller, purpose="batch_output").data) == 2


def export(settings: Settings, batch_id: str) -> None:
    export_results(assemble(settings), batch_id)


def test_racing_exports_enter_their_files_once(settings: Settings, parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(600))
    work(parts, answer=refuse_odd)
    parts.database.close()

    racers = [FORK.Process(target=export, args=(settings, batch_id)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30)

    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert len(list_files(parts, caller, purpose="batch_output").data) == 2
    batch = get_batch(parts, caller, batch_id)
    assert len(lines_of(parts, batch.output_file_id)) == 300


def test_manifests_share_ids_without_harm(parts: Parts) -> None:
    first = accept(parts, manifest({"id": "a", "prompt": "1"}))
    second = accept(parts, manifest({"id": "a", "prompt": "2"}))
    work(parts)
    close_batches(parts, {first, second})

    for batch_id in (first, second):
        assert [line["custom_id"] for line in lines_of(parts, exported(parts, batch_id).output_file_id)] == [
            "a"
        ]
