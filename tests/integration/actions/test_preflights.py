"""Preflights on both databases: counted once, whoever is killed or races, measured, and forgotten."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from workplace import accept, manifest, prompts, refuse, rows, work

from service.actions import scan_manifest as scanning
from service.actions.close_batches import close_batches
from service.actions.end_preflight import cancel_preflight, delete_preflight
from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.load_body import load_body
from service.actions.parts import Parts, assemble
from service.actions.read_batches import list_batches
from service.actions.read_preflights import get_preflight
from service.actions.recover_lost_work import recover_lost_work
from service.actions.submit_preflight import submit_lines
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.chat import parse_chat_request
from service.contract.endpoints import PREFLIGHT
from service.contract.jobs import ClaimedJob, Outcome, Succeeded, Usage
from service.contract.measured_lines import MeasuredLine
from service.contract.tickets import Ingest
from service.errors import BadMedia, Conflict, NotFound
from service.settings import Settings
from service.store import preflights, webhooks
from service.store.tables import (
    Base,
    Batch,
    BatchProgress,
    File,
    Job,
    JobPayload,
    Preflight,
    Result,
    WebhookDelivery,
)
from service.store.tables import Usage as UsageRow

ME = Caller()


def begun(parts: Parts, lines: list[bytes], sample: int = 256, **options: Any) -> str:
    """A preflight whose manifest nobody has read."""
    return submit_lines(parts, ME, lines, BatchOptions(**options), sample).id


def scanned(parts: Parts, lines: list[bytes], sample: int = 256, **options: Any) -> str:
    preflight_id = begun(parts, lines, sample, **options)
    ingest_manifest(parts, preflight_id)
    return preflight_id


def measure(job: ClaimedJob) -> Outcome:
    """What the desk says: ten tokens of text, and ten of picture for every second line."""
    line = MeasuredLine(text=10, image=10 * ((job.line_no or 0) % 2), video=0, audio=0, most_answer=5)
    return Succeeded(job, line.as_body(), Usage())


def finished(parts: Parts, preflight_id: str) -> None:
    export_results(parts, preflight_id)


def count(parts: Parts, table: type[Base]) -> int:
    with parts.database.reading() as db:
        return db.scalar(select(func.count()).select_from(table)) or 0


def test_a_preflight_says_what_all_lines_come_to(parts: Parts) -> None:
    preflight_id = scanned(parts, [*prompts(8), *manifest(b"no JSON")])
    work(parts, answer=measure)
    finished(parts, preflight_id)

    told = get_preflight(parts, ME, preflight_id)
    assert told.status == "completed"
    assert told.lines is not None
    assert (told.lines.total, told.lines.valid, told.lines.errors[0].lines) == (9, 8, [9])
    assert told.tokens is not None
    prompt = told.tokens.prompt
    assert (prompt.estimated, prompt.low, prompt.high, prompt.text, prompt.image) == (120, 120, 120, 80, 40)
    assert told.tokens.answer.upper_bound == 40
    assert told.estimated_seconds is None
    assert told.note is not None


def test_the_time_is_what_the_same_models_took_lately(parts: Parts) -> None:
    accept(parts, prompts(20))
    took = Usage(prompt_tokens=80, completion_tokens=20, prompt_seconds=1.0, completion_seconds=3.0)
    work(parts, answer=lambda job: Succeeded(job, {}, took))
    preflight_id = scanned(parts, list(prompts(8)))
    work(parts, answer=measure)

    told = get_preflight(parts, ME, preflight_id)
    assert told.tokens is not None
    # Recent answers had twenty tokens, but these lines allow five.
    assert (told.tokens.prompt.estimated, told.tokens.answer.expected) == (120, 40)
    # Twenty answers side by side in four seconds: 500 tokens a second.
    assert told.estimated_seconds == pytest.approx((120 + 40) / 500, abs=0.1)
    assert told.note is None


def test_only_the_sample_becomes_jobs_and_their_bodies_stay_in_the_manifest(parts: Parts) -> None:
    preflight_id = scanned(parts, list(prompts(100)), sample=5, defaults={"max_tokens": 3})
    lines = rows(parts, preflight_id)
    bodies: list[bytes] = []

    def read(job: ClaimedJob) -> Outcome:
        assert (job.body, job.endpoint) == (None, PREFLIGHT)
        bodies.append(load_body(parts, job))
        return measure(job)

    work(parts, answer=read)
    assert len(lines) == len(bodies) == 5
    for line, body in zip(lines, bodies, strict=True):
        request = parse_chat_request(body)
        assert line.line_no is not None
        assert request.messages[0].content[0].text == f"Say {line.line_no - 1}."  # type: ignore[union-attr]
        assert request.max_tokens == 3
    told = get_preflight(parts, ME, preflight_id)
    assert told.lines is not None
    assert (told.lines.valid, told.sample.measured) == (100, 5)


def test_a_scan_that_is_killed_leaves_nothing_and_another_begins_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight_id = begun(parts, list(prompts(30)), sample=4)
    with monkeypatch.context() as killed:
        killed.setattr(preflights, "keep_scan", _die)
        with pytest.raises(_Killed):
            ingest_manifest(parts, preflight_id)
    assert (count(parts, Job), get_preflight(parts, ME, preflight_id).status) == (0, "scanning")

    ingest_manifest(parts, preflight_id)

    assert (count(parts, Job), get_preflight(parts, ME, preflight_id).status) == (4, "measuring")


def test_a_scan_whose_worker_was_lost_is_found(settings: Settings, tmp_path: Path) -> None:
    parts = assemble(settings.model_copy(update={"redis_url_setting": f"unix://{tmp_path}/nothing.sock"}))
    preflight_id = begun(parts, list(prompts(3)))
    with parts.database.transaction() as db:
        db.get_one(Batch, preflight_id).ingest_moved_at = 1.0

    assert recover_lost_work(parts) == [Ingest(preflight_id)]
    with parts.database.transaction() as db:
        assert preflights.goes_on(db, preflight_id)
    assert recover_lost_work(parts) == []
    parts.close()


def test_two_scans_of_one_manifest_queue_one_sample(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight_id = begun(parts, list(prompts(30)), sample=4)
    commit = scanning._Scan.commit

    def overtaken(scan: scanning._Scan, end_offset: int) -> None:
        with monkeypatch.context() as other:
            other.setattr(scanning._Scan, "commit", commit)
            ingest_manifest(parts, preflight_id)
        commit(scan, end_offset)

    monkeypatch.setattr(scanning._Scan, "commit", overtaken)
    ingest_manifest(parts, preflight_id)

    assert count(parts, Job) == 4
    with parts.database.reading() as db:
        assert db.get_one(Batch, preflight_id).total == 4


def test_a_preflight_that_is_cancelled_while_it_is_scanned_makes_no_jobs(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "CHUNK_LINES", 10)
    monkeypatch.setattr(scanning, "SIGN_SECONDS", 0.0)
    preflight_id = begun(parts, list(prompts(100)))
    counted: list[int] = []
    count_line = scanning._Scan._count

    def cancelled(scan: scanning._Scan, raw: Any) -> None:
        counted.append(raw.line_no)
        if raw.line_no == 15:
            cancel_preflight(parts, ME, preflight_id)
        count_line(scan, raw)

    monkeypatch.setattr(scanning._Scan, "_count", cancelled)
    ingest_manifest(parts, preflight_id)
    finished(parts, preflight_id)

    assert counted[-1] == 20
    assert count(parts, Job) == 0
    assert get_preflight(parts, ME, preflight_id).status == "cancelled"


def test_a_manifest_without_a_good_line_ends_by_itself(parts: Parts) -> None:
    preflight_id = scanned(parts, manifest(b"no JSON", b"[]"))
    finished(parts, preflight_id)

    told = get_preflight(parts, ME, preflight_id)
    assert (told.status, told.sample.measured, told.tokens) == ("completed", 0, None)
    assert told.lines is not None
    assert {error.code: error.lines for error in told.lines.errors} == {"invalid_json": [1, 2]}


def test_lines_that_would_fail_are_named_and_cost_nothing(parts: Parts) -> None:
    def half(job: ClaimedJob) -> Outcome:
        if job.line_no == 2:
            return refuse(job, BadMedia("The file is empty.", param="messages[0]", code="media_empty"))
        return measure(job)

    preflight_id = scanned(parts, list(prompts(2)))
    work(parts, answer=half)

    told = get_preflight(parts, ME, preflight_id)
    assert told.sample.failed == 1
    (failed,) = told.failed_lines
    assert (failed.line, failed.custom_id, failed.error["code"]) == (2, "p1", "media_empty")
    assert "status" not in failed.error
    assert told.tokens is not None
    assert told.tokens.prompt.estimated == 20


def test_nothing_of_it_is_charged_written_to_files_announced_or_listed(parts: Parts) -> None:
    with parts.database.transaction() as db:
        events = ("batch.completed", "batch.failed")
        webhooks.insert_webhook(
            db,
            ME.tenant_id,
            webhook_id=webhooks.new_id(),
            name="mine",
            url="https://hooks.example.com/",
            event_types=events,
        )
    preflight_id = scanned(parts, list(prompts(3)))
    work(parts, answer=measure)
    finished(parts, preflight_id)
    scanned(parts, manifest(b""))

    assert count(parts, UsageRow) == count(parts, WebhookDelivery) == 0
    assert count(parts, File) == 2
    assert list_batches(parts, ME).data == []


def test_an_ended_preflight_is_forgotten_with_its_lines_and_nothing_else(parts: Parts) -> None:
    other = scanned(parts, list(prompts(2)))
    preflight_id = scanned(parts, list(prompts(3)))
    with pytest.raises(Conflict):
        delete_preflight(parts, ME, preflight_id)
    work(parts, answer=measure)
    close_batches(parts, {preflight_id})
    finished(parts, preflight_id)

    delete_preflight(parts, ME, preflight_id)

    assert [count(parts, table) for table in (Job, JobPayload, Result, Preflight, Batch)] == [2, 2, 2, 1, 1]
    assert count(parts, BatchProgress) >= 1
    with pytest.raises(NotFound):
        get_preflight(parts, ME, preflight_id)
    assert get_preflight(parts, ME, other).sample.measured == 2


def test_a_key_makes_one_preflight_until_that_is_forgotten(parts: Parts) -> None:
    def sent() -> str:
        told = submit_lines(parts, ME, list(prompts(2)), BatchOptions(), 9, idempotency_key="once")
        return told.id

    first = sent()
    assert (sent(), count(parts, Preflight), count(parts, File)) == (first, 1, 1)

    cancel_preflight(parts, ME, first)
    close_batches(parts, {first})
    finished(parts, first)
    delete_preflight(parts, ME, first)

    assert sent() != first
    assert count(parts, Preflight) == 1


class _Killed(Exception):
    pass


def _die(*_: object) -> None:
    raise _Killed
