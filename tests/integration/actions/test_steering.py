"""Batches that are paused, changed, stopped at their budget and tried again."""

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from workplace import accept, manifest, prompts, refuse, reply, rows, states, submit, work

from service.actions.cancel_batch import cancel_batch
from service.actions.cancel_job import cancel_job
from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.load_body import load_body
from service.actions.parts import Parts, assemble
from service.actions.pause_batch import pause_batch, resume_batch
from service.actions.read_batches import get_batch
from service.actions.read_files import delete_file, open_file
from service.actions.recover_lost_work import recover_lost_work
from service.actions.retry_batch import retry_batch
from service.actions.update_batch import update_batch
from service.contract.batch_controls import RetryBatch, UpdateBatch
from service.contract.callers import Caller
from service.contract.jobs import ClaimedJob, Outcome
from service.contract.lifecycle import JobState
from service.errors import BadMedia, BadRequest, Conflict, KeyReused, NotFound
from service.settings import Settings
from service.store import batches, retries
from service.store.sweeps import SWEEP_CHUNK

QUEUED, HELD = JobState.QUEUED, JobState.HELD
STRANGER = Caller("somebody")


def refuse_odd(job: ClaimedJob) -> Outcome:
    """Every second line has a broken image."""
    return refuse(job, BadMedia("The image is broken.")) if (job.line_no or 0) % 2 else reply(job)


def end(parts: Parts, batch_id: str) -> None:
    """Write the files of a batch whose jobs have ended."""
    export_results(parts, batch_id)


def error_lines(parts: Parts, caller: Caller, batch_id: str) -> list[dict[str, Any]]:
    file_id = get_batch(parts, caller, batch_id).error_file_id
    assert file_id is not None
    with open_file(parts, caller, file_id).stream as stream:
        return [orjson.loads(line) for line in stream]


def test_a_paused_batch_rests_and_goes_on(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(5))
    work(parts, limit=2)

    paused = pause_batch(parts, caller, batch_id)
    assert (paused.status, paused.paused_at is not None) == ("in_progress", True)
    assert pause_batch(parts, caller, batch_id) == paused
    assert work(parts) == []
    recover_lost_work(parts)
    assert states(parts, batch_id)[2:] == [HELD] * 3

    resumed = resume_batch(parts, caller, batch_id)
    assert resume_batch(parts, caller, batch_id) == resumed
    assert resumed.paused_at is None
    assert len(work(parts)) == 3
    end(parts, batch_id)
    assert get_batch(parts, caller, batch_id).status == "completed"


def test_a_batch_that_is_paused_before_it_is_read_holds_all_its_lines(parts: Parts, caller: Caller) -> None:
    batch_id = submit(parts, prompts(120))
    assert pause_batch(parts, caller, batch_id).status == "validating"
    ingest_manifest(parts, batch_id)
    assert set(states(parts, batch_id)) == {HELD}
    assert get_batch(parts, caller, batch_id).status == "in_progress"
    resume_batch(parts, caller, batch_id)
    assert len(work(parts)) == 120


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_large_batch_is_told_by_the_recovery_rounds(
    parts: Parts, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.actions.pause_batch.spread_wishes", lambda parts: None)
    batch_id = accept(parts, prompts(SWEEP_CHUNK + 30))
    pause_batch(parts, caller, batch_id)
    assert set(states(parts, batch_id)) == {QUEUED}
    recover_lost_work(parts)
    assert set(states(parts, batch_id)) == {HELD}


def test_what_has_ended_can_be_neither_paused_nor_changed(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(1))
    work(parts)
    end(parts, batch_id)
    asks: list[Callable[[], Any]] = [
        lambda: pause_batch(parts, caller, batch_id),
        lambda: resume_batch(parts, caller, batch_id),
        lambda: update_batch(parts, caller, batch_id, UpdateBatch(priority=3)),
    ]
    for ask in asks:
        with pytest.raises(Conflict, match="completed"):
            ask()


def test_a_batch_is_changed_as_far_as_the_request_says(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(3), metadata={"a": "b"}, token_budget=1000)
    before = get_batch(parts, caller, batch_id)
    assert update_batch(parts, caller, batch_id, UpdateBatch()) == before

    changed = update_batch(parts, caller, batch_id, UpdateBatch(priority=2, completion_window="2d"))
    assert (changed.priority, changed.completion_window) == (2, "2d")
    assert (changed.metadata, changed.token_budget) == ({"a": "b"}, 1000)
    assert changed.expires_at is not None
    assert changed.expires_at - changed.created_at in (2 * 86400, 2 * 86400 + 1)
    assert {job.priority for job in rows(parts, batch_id)} == {2}

    cleared = update_batch(parts, caller, batch_id, UpdateBatch(metadata=None, token_budget=None))
    assert (cleared.metadata, cleared.token_budget, cleared.priority) == (None, None, 2)


def test_a_window_that_has_passed_cannot_be_opened_again(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(2))
    with parts.database.transaction() as db:
        row = batches.find(db, batch_id)
        assert row is not None
        row.expires_at = 1.0
    with pytest.raises(Conflict) as refusal:
        update_batch(parts, caller, batch_id, UpdateBatch(completion_window="2d"))
    assert refusal.value.param == "completion_window"


def test_a_batch_stops_at_its_budget_and_says_so(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(6), token_budget=15)
    work(parts, limit=2)
    assert get_batch(parts, caller, batch_id).status == "in_progress"
    work(parts, limit=2)

    end(parts, batch_id)
    batch = get_batch(parts, caller, batch_id)
    assert (batch.status, batch.usage.total_tokens, batch.request_counts.cancelled) == ("cancelled", 20, 2)
    assert batch.errors is not None
    assert batch.errors.data[0].code == "token_budget_reached"
    assert [line["error"]["code"] for line in error_lines(parts, caller, batch_id)] == [
        "token_budget_reached"
    ] * 2


def test_a_line_that_was_cancelled_before_does_not_blame_the_budget(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(4), token_budget=5)
    cancel_job(parts, caller, rows(parts, batch_id)[3].id)
    work(parts, limit=1)
    end(parts, batch_id)
    codes = [line["error"]["code"] for line in error_lines(parts, caller, batch_id)]
    assert codes == ["token_budget_reached", "token_budget_reached", "batch_cancelled"]


def test_a_budget_below_what_was_used_stops_the_batch_at_once(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(4))
    work(parts, limit=2)
    stopped = update_batch(parts, caller, batch_id, UpdateBatch(token_budget=1))
    assert stopped.request_counts.cancelled == 2
    end(parts, batch_id)
    assert get_batch(parts, caller, batch_id).status == "cancelled"


def test_a_budget_that_nobody_looked_at_is_found_by_the_recovery(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(4))
    work(parts, limit=2)
    with parts.database.transaction() as db:
        batches.change(db, caller.tenant_id, batch_id, {"token_budget": 1})
    recover_lost_work(parts)
    assert get_batch(parts, caller, batch_id).request_counts.cancelled == 2


def test_failed_lines_are_tried_again_as_a_batch_of_their_own(parts: Parts, caller: Caller) -> None:
    lines = [*prompts(120), b"{broken\n"]
    parent = accept(parts, lines, priority=7, metadata={"a": "b"})
    work(parts, answer=refuse_odd)
    end(parts, parent)
    assert get_batch(parts, caller, parent).request_counts.failed == 61

    child = retry_batch(parts, caller, parent, RetryBatch())
    assert (child.status, child.retry_of, child.priority) == ("validating", parent, 7)
    assert (child.metadata, child.input_file_id) == (
        {"a": "b"},
        get_batch(parts, caller, parent).input_file_id,
    )
    ingest_manifest(parts, child.id)
    assert [job.line_no for job in rows(parts, child.id)] == list(range(1, 120, 2))
    assert [job.custom_id for job in rows(parts, child.id)] == [f"p{i}" for i in range(0, 120, 2)]
    work(parts)
    end(parts, child.id)
    ended = get_batch(parts, caller, child.id)
    assert (ended.status, ended.request_counts.completed, ended.error_file_id) == ("completed", 60, None)
    # Terminal is final: nothing of it has changed the parent.
    assert get_batch(parts, caller, parent).request_counts.failed == 61


def test_a_child_reads_long_lines_where_its_parent_read_them(settings: Settings, caller: Caller) -> None:
    parts = assemble(settings.model_copy(update={"inline_body_bytes": 100}))
    parent = accept(parts, manifest({"id": "long", "prompt": "x" * 200}), defaults={"max_tokens": 7})
    manifest_id = get_batch(parts, caller, parent).input_file_id
    work(parts, answer=refuse_odd)
    end(parts, parent)
    child = retry_batch(parts, caller, parent, RetryBatch()).id
    with pytest.raises(Conflict):
        delete_file(parts, caller, manifest_id)
    ingest_manifest(parts, child)

    (job,) = work(parts)
    body = orjson.loads(load_body(parts, job))
    assert (body["max_tokens"], body["messages"][0]["content"]) == (7, "x" * 200)
    end(parts, child)
    assert delete_file(parts, caller, manifest_id).deleted
    parts.close()


def test_nothing_to_retry_and_a_batch_that_runs_are_refused(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, [*prompts(2), b"{broken\n"])
    with pytest.raises(Conflict) as running:
        retry_batch(parts, caller, batch_id, RetryBatch())
    assert running.value.hint
    work(parts)
    end(parts, batch_id)
    with pytest.raises(BadRequest) as nothing:
        retry_batch(parts, caller, batch_id, RetryBatch())
    assert nothing.value.code == "nothing_to_retry"


def test_only_what_a_retry_can_help_is_tried_again_where_that_is_asked(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(4))
    work(parts, limit=2, answer=refuse_odd)
    cancel_batch(parts, caller, batch_id)
    end(parts, batch_id)
    with pytest.raises(BadRequest):
        retry_batch(parts, caller, batch_id, RetryBatch(states=("failed",), only_retryable=True))
    child = retry_batch(parts, caller, batch_id, RetryBatch(only_retryable=True)).id
    ingest_manifest(parts, child)
    assert [job.line_no for job in rows(parts, child)] == [3, 4]


def test_the_same_key_makes_one_child(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(2))
    cancel_batch(parts, caller, batch_id)
    end(parts, batch_id)
    first = retry_batch(parts, caller, batch_id, RetryBatch(), idempotency_key="k")
    again = retry_batch(parts, caller, batch_id, RetryBatch(), idempotency_key="k")
    assert again.id == first.id
    assert retry_batch(parts, caller, batch_id, RetryBatch()).id != first.id
    with pytest.raises(KeyReused):
        retry_batch(parts, caller, batch_id, RetryBatch(priority=3), idempotency_key="k")


def test_racing_copiers_fill_a_child_once(settings: Settings, parts: Parts, caller: Caller) -> None:
    parent = accept(parts, prompts(400))
    cancel_batch(parts, caller, parent)
    end(parts, parent)
    child = retry_batch(parts, caller, parent, RetryBatch()).id
    errors: list[BaseException] = []

    def race() -> None:
        own = assemble(settings)
        try:
            ingest_manifest(own, child)
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()

    racers = [threading.Thread(target=race) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    # One that came late leaves the rest to the others; whoever is left is finished here.
    ingest_manifest(parts, child)

    assert errors == []
    assert [job.line_no for job in rows(parts, child)] == list(range(1, 401))
    assert get_batch(parts, caller, child).request_counts.total == 400


def test_a_copy_that_broke_off_goes_on_where_it_stood(
    parts: Parts, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = accept(parts, prompts(170))
    cancel_batch(parts, caller, parent)
    end(parts, parent)
    child = retry_batch(parts, caller, parent, RetryBatch()).id
    copied = 0
    copy_lines = retries.copy_lines

    def stumble(*arguments: Any) -> None:
        nonlocal copied
        copy_lines(*arguments)
        copied += 1
        if copied == 2:
            raise KeyError

    monkeypatch.setattr(retries, "copy_lines", stumble)
    with pytest.raises(KeyError):
        ingest_manifest(parts, child)
    assert len(rows(parts, child)) == 50
    ingest_manifest(parts, child)
    assert [job.line_no for job in rows(parts, child)] == list(range(1, 171))


def test_anothers_batch_is_as_unknown_as_none(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(1))
    for name in (batch_id, "batch_" + "0" * 24, "batch_\0", ""):
        for ask in (
            lambda name: pause_batch(parts, STRANGER, name),
            lambda name: resume_batch(parts, STRANGER, name),
            lambda name: update_batch(parts, STRANGER, name, UpdateBatch(priority=3)),
            lambda name: retry_batch(parts, STRANGER, name, RetryBatch()),
        ):
            with pytest.raises(NotFound) as refusal:
                ask(name)
            assert refusal.value.code == "batch_not_found"
    assert states(parts, batch_id) == [QUEUED]
