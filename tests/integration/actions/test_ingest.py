"""Manifests become jobs: each line once, whatever is wrong with its neighbours and whoever is killed."""

import multiprocessing
import os
import random
import signal
import threading
import time
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from workplace import accept, manifest, prompts, rows, states, submit, work

from service.actions.cancel_batch import cancel_batch
from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.load_body import load_body
from service.actions.parts import Parts, assemble
from service.actions.read_batches import get_batch
from service.actions.read_jobs import list_jobs
from service.channels.doorbell import Doorbell
from service.contract.callers import Caller
from service.contract.lifecycle import JobState
from service.errors import StorageFull
from service.settings import Settings
from service.store import batches, lines

QUEUED, FAILED = JobState.QUEUED, JobState.FAILED
FORK = multiprocessing.get_context("fork")


def errors_of(parts: Parts, batch_id: str) -> dict[int, dict[str, Any]]:
    listed = list_jobs(parts, Caller(), batch_id=batch_id, states=[FAILED]).data
    return {job.line or 0: job.error or {} for job in listed}


def test_every_line_becomes_a_job(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(120))

    batch = get_batch(parts, caller, batch_id)
    assert (batch.status, batch.request_counts.total) == ("in_progress", 120)
    jobs = rows(parts, batch_id)
    assert [job.line_no for job in jobs] == list(range(1, 121))
    assert {job.model for job in jobs} == {"tiny"}
    assert [job.custom_id for job in jobs] == [f"p{i}" for i in range(120)]


def test_a_bad_line_fails_alone_with_its_number_field_and_reason(parts: Parts) -> None:
    batch_id = accept(
        parts,
        manifest(
            {"id": "good", "prompt": "Hi"},
            b"{broken",
            b"",
            {"id": "model", "prompt": "Hi", "model": "nobody"},
            {"id": "field", "imgae": "/x.png", "prompt": "Hi"},
            {"id": "good", "prompt": "again"},
            {"prompt": "no id"},
        ),
    )

    assert states(parts, batch_id) == [QUEUED, FAILED, FAILED, FAILED, FAILED, QUEUED]
    errors = errors_of(parts, batch_id)
    assert {line: (error["code"], error["param"]) for line, error in errors.items()} == {
        2: ("invalid_json", None),
        4: ("model_not_found", "model"),
        5: ("unknown_field", "imgae"),
        6: ("duplicate_custom_id", "custom_id"),
    }
    assert all(error["line"] == line and error["hint"] for line, error in errors.items())
    assert [job.line_no for job in rows(parts, batch_id)] == [1, 2, 4, 5, 6, 7]


def test_a_manifest_without_lines_fails_as_a_whole(parts: Parts, caller: Caller) -> None:
    batch = get_batch(parts, caller, accept(parts, [b"\n  \n\xef\xbb\xbf\n"]))

    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data[0].code == "empty_manifest"


def test_a_manifest_of_bad_lines_alone_ends_at_once(parts: Parts, caller: Caller) -> None:
    batch = get_batch(parts, caller, accept(parts, [b"{\n{\n"]))

    assert batch.status == "finalizing"
    assert (batch.request_counts.total, batch.request_counts.failed) == (2, 2)


def test_a_line_over_the_limit_fails_and_the_next_is_read(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"max_request_bytes": 100}))
    batch_id = accept(parts, manifest({"prompt": "x" * 200}, {"prompt": "short"}))

    assert states(parts, batch_id) == [FAILED, QUEUED]
    assert errors_of(parts, batch_id)[1]["code"] == "line_too_long"
    parts.close()


def test_a_long_line_stays_in_the_manifest_and_means_the_same_there(settings: Settings) -> None:
    lines_ = manifest({"prompt": "brief"}, {"id": "long", "image": "a b.png", "prompt": "x" * 200})
    options = {"defaults": {"max_tokens": 7}, "base_dir": str(settings.data_dir)}
    changes = {"allow_files": str(settings.data_dir), "inline_body_bytes": 100}
    parts = assemble(settings.model_copy(update=changes))
    accept(parts, lines_, **options)
    seen: dict[str | None, bytes] = {}

    claimed = work(parts)
    for job in claimed:
        seen[job.custom_id] = load_body(parts, job)

    by_id = {job.custom_id: job for job in claimed}
    assert by_id[None].payload is None
    assert by_id["long"].body is None
    body = orjson.loads(seen["long"])
    assert body["max_tokens"] == 7
    assert body["messages"][0]["content"][0]["image_url"]["url"] == f"file://{settings.data_dir}/a%20b.png"
    assert orjson.loads(seen[None])["messages"][0]["content"] == "brief"
    parts.close()


def test_a_manifest_that_is_gone_is_told(parts: Parts, caller: Caller) -> None:
    batch_id = submit(parts, prompts(3))
    parts.blobs.delete(f"files/{get_batch(parts, caller, batch_id).input_file_id}")

    ingest_manifest(parts, batch_id)

    batch = get_batch(parts, caller, batch_id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data[0].code == "manifest_gone"


def test_a_cancelled_batch_is_read_no_further(parts: Parts, caller: Caller) -> None:
    batch_id = submit(parts, prompts(200))
    cancel_batch(parts, caller, batch_id)

    ingest_manifest(parts, batch_id)
    export_results(parts, batch_id)

    assert rows(parts, batch_id) == []
    batch = get_batch(parts, caller, batch_id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("cancelled", None, None)


def test_reading_a_manifest_again_changes_nothing(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(60))
    ingest_manifest(parts, batch_id)

    assert len(rows(parts, batch_id)) == get_batch(parts, caller, batch_id).request_counts.total == 60


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_full_disk_stops_an_ingest_that_goes_on_once_there_is_room(parts: Parts) -> None:
    batch_id = submit(parts, prompts(2000))
    with parts.database.reading() as db:
        num_pages = db.scalar(text("PRAGMA page_count"))
        db.execute(text(f"PRAGMA max_page_count = {num_pages + 50}"))

    with pytest.raises(StorageFull):
        ingest_manifest(parts, batch_id)
    assert 0 < num_read(parts, batch_id) < 2000
    with parts.database.reading() as db:
        db.execute(text("PRAGMA max_page_count = 1000000"))
    ingest_manifest(parts, batch_id)

    assert [job.line_no for job in rows(parts, batch_id)] == list(range(1, 2001))


def ingest_and_die(settings: Settings, batch_id: str, point: tuple[Any, str, bool], nth: int) -> None:
    """Ingest in a process of its own that is killed before or after the nth call of a function."""
    module, name, before = point
    real, calls = getattr(module, name), 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and before:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **kwargs)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(module, name, deadly)
    ingest_manifest(assemble(settings), batch_id)


POINTS = {
    "before the offset moves": (batches, "advance_ingest", True),
    "between the offset and the rows": (lines, "insert_lines", True),
    "between the rows and the commit": (lines, "insert_lines", False),
    "between the commit and the bell": (Doorbell, "ring", True),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_ingest_is_taken_up_where_it_stood(settings: Settings, parts: Parts, point: str) -> None:
    # Blank lines across chunk borders: line numbers must survive the kill too.
    blank = [b"\n" * 60]
    batch_id = submit(parts, [*prompts(75), *blank, *prompts(75, start=75), b"{bad\n"])
    parts.database.close()

    for nth in (1, 2, 3):
        child = FORK.Process(target=ingest_and_die, args=(settings, batch_id, POINTS[point], nth))
        child.start()
        child.join(30)
        # The third may find so few lines left that it lives to the end.
        assert child.exitcode == -signal.SIGKILL or (nth == 3 and child.exitcode == 0)
    ingest_manifest(parts, batch_id)

    jobs = rows(parts, batch_id)
    expected = [*range(1, 76), *range(136, 211), 211]
    assert [job.line_no for job in jobs] == expected
    assert get_batch(parts, Caller(), batch_id).request_counts.total == 151
    assert [job.state for job in jobs] == [QUEUED] * 150 + [FAILED]


def ingest(settings: Settings, batch_id: str) -> None:
    ingest_manifest(assemble(settings), batch_id)


def num_read(parts: Parts, batch_id: str) -> int:
    return get_batch(parts, Caller(), batch_id).request_counts.total


def test_racing_ingesters_killed_on_their_way_read_every_line_once(settings: Settings, parts: Parts) -> None:
    num_lines = 5000
    batch_id = submit(parts, prompts(num_lines))
    chance = random.Random(7)

    for _ in range(4):
        enough = num_read(parts, batch_id) + chance.randint(1, 1000)
        parts.database.close()
        racers = [FORK.Process(target=ingest, args=(settings, batch_id)) for _ in range(3)]
        for racer in racers:
            racer.start()
        while num_read(parts, batch_id) < enough:
            time.sleep(0.002)
        for racer in racers:
            racer.kill()
            racer.join()
            assert racer.exitcode in (-signal.SIGKILL, 0)
    assert num_read(parts, batch_id) < num_lines
    ingest_manifest(parts, batch_id)

    assert [job.custom_id for job in rows(parts, batch_id)] == [f"p{i}" for i in range(num_lines)]
    assert num_read(parts, batch_id) == num_lines


def test_an_ingester_that_comes_too_late_leaves_without_a_trace(settings: Settings, parts: Parts) -> None:
    batch_id = submit(parts, prompts(1000))
    errors: list[BaseException] = []

    def race() -> None:
        own = assemble(settings)
        try:
            ingest_manifest(own, batch_id)
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()

    racers = [threading.Thread(target=race) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert errors == []
    assert num_read(parts, batch_id) == len(rows(parts, batch_id)) == 1000
