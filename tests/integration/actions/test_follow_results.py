"""A batch's results while it runs: followed, in pages, as a Parquet file; and its progress, watched."""

import io
import threading
import time
from collections.abc import Iterator

import pytest
from pyarrow import parquet
from sqlalchemy import QueuePool, event
from workplace import accept, manifest, prompts, refuse, reply, work

from service.actions.cancel_batch import cancel_batch
from service.actions.export_results import export_results
from service.actions.parts import Parts
from service.actions.read_batches import get_batch
from service.actions.read_results import follow_results, read_results
from service.actions.recover_lost_work import recover_lost_work
from service.actions.snapshot_results import Snapshot, snapshot_results
from service.actions.watch_batch import watch_batch
from service.actions.watches import LOOK_SECONDS
from service.contract.callers import Caller
from service.contract.jobs import ClaimedJob, Outcome
from service.contract.progress_events import ProgressEvent
from service.contract.result_table import COLUMNS
from service.errors import BadRequest, NotFound
from service.store.result_feed import Told

STRANGER = Caller("somebody")


def refuse_odd(job: ClaimedJob) -> Outcome:
    return refuse(job, BadRequest("No.", hint="Ask again.")) if (job.line_no or 0) % 2 else reply(job)


def lines_of(chunks: Iterator[list[Told]]) -> list[int | None]:
    return [told.job.line_no for chunk in chunks for told in chunk]


def num_connections(parts: Parts) -> int:
    """Connections that somebody holds."""
    with parts.database.reading() as db:
        pool = db.get_bind().engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


def test_a_follower_gets_every_line_once_and_ends_with_the_batch(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(450))
    seen: list[int | None] = []

    def follow() -> None:
        for chunk in follow_results(parts, caller, batch_id):
            seen.extend(told.job.line_no for told in chunk)

    follower = threading.Thread(target=follow)
    follower.start()
    for _ in range(4):
        work(parts, limit=100, answer=refuse_odd)
    while len(seen) < 400:
        time.sleep(0.02)
    assert follower.is_alive()
    cancel_batch(parts, caller, batch_id)
    recover_lost_work(parts)
    follower.join(20)

    assert not follower.is_alive()
    assert sorted(line or 0 for line in seen) == list(range(1, 451))
    assert seen[400:] == list(range(401, 451))


def test_a_follower_holds_no_connection_while_it_waits_or_is_slow(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(450))
    work(parts, limit=440)
    chunks = follow_results(parts, caller, batch_id)

    for expected in (200, 200, 40, 0, 0):
        assert len(next(chunks)) == expected
        assert num_connections(parts) == 0


def test_a_page_says_where_it_ends_before_it_is_read(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(30))
    work(parts, limit=25)

    first = read_results(parts, caller, batch_id, limit=20)
    work(parts, limit=1)  # nothing of this gets into a page whose end was told
    second = read_results(parts, caller, batch_id, cursor=first.cursor, limit=20)

    assert len(lines_of(first.chunks)) == 20
    assert len(lines_of(second.chunks)) == 6
    assert not second.is_complete
    work(parts)
    third = read_results(parts, caller, batch_id, cursor=second.cursor)
    assert (len(lines_of(third.chunks)), third.is_complete) == (4, True)
    assert lines_of(read_results(parts, caller, batch_id, cursor=third.cursor).chunks) == []


@pytest.mark.parametrize("ask", [read_results, follow_results, watch_batch])
def test_another_tenants_batch_is_as_unknown_as_any(parts: Parts, caller: Caller, ask: object) -> None:
    batch_id = accept(parts, prompts(1))
    for who, wanted in ((STRANGER, batch_id), (caller, "batch_" + "0" * 24), (caller, "nonsense")):
        with pytest.raises(NotFound) as refusal:
            ask(parts, who, wanted)  # type: ignore[operator]
        assert refusal.value.code == "batch_not_found"


def test_a_snapshot_has_one_schema_for_replies_and_failures(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, [*prompts(7), b"{bad\n"])
    work(parts, limit=3, answer=refuse_odd)
    first, rest = io.BytesIO(), io.BytesIO()

    began = snapshot_results(parts, caller, batch_id, first)
    work(parts)
    ended = snapshot_results(parts, caller, batch_id, rest, cursor=began.cursor)

    tables = [parquet.read_table(io.BytesIO(file.getvalue())) for file in (first, rest)]
    assert tables[0].schema == tables[1].schema
    assert tables[0].column_names == list(COLUMNS)
    rows = [row for table in tables for row in table.to_pylist()]
    assert sorted(row["line"] for row in rows) == list(range(1, 9))
    assert {row["status"] for row in tables[0].to_pylist()} == {"succeeded", "failed"}
    assert (began.is_complete, ended.is_complete) == (False, True)
    assert [row["cursor"] for row in rows][-1] == ended.cursor
    nothing = io.BytesIO()
    assert snapshot_results(parts, caller, batch_id, nothing, cursor=ended.cursor) == Snapshot(
        ended.cursor, True
    )
    assert parquet.read_table(io.BytesIO(nothing.getvalue())).num_rows == 0
    limited = io.BytesIO()
    assert not snapshot_results(parts, caller, batch_id, limited, limit=5).is_complete
    assert parquet.read_table(io.BytesIO(limited.getvalue())).num_rows == 5


def test_a_large_snapshot_is_written_in_groups(
    parts: Parts, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.actions.snapshot_results.GROUP_ROWS", 100)
    monkeypatch.setattr("service.actions.read_results.CHUNK_JOBS", 30)
    batch_id = accept(parts, prompts(250))
    work(parts, limit=250)
    target = io.BytesIO()

    snapshot_results(parts, caller, batch_id, target)

    written = parquet.ParquetFile(io.BytesIO(target.getvalue()))
    assert (written.num_row_groups, written.metadata.num_rows) == (3, 250)


def test_a_watcher_is_told_every_status_and_ends_with_the_last(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(40))
    seen: list[ProgressEvent] = []

    def watch() -> None:
        seen.extend(event for event in watch_batch(parts, caller, batch_id) if event is not None)

    watcher = threading.Thread(target=watch)
    watcher.start()
    while not seen:
        time.sleep(0.02)
    work(parts, limit=10)
    while len(seen) < 2:
        time.sleep(0.02)
    work(parts, answer=refuse_odd)
    while len(seen) < 3:
        time.sleep(0.02)
    export_results(parts, batch_id)
    watcher.join(20)

    assert not watcher.is_alive()
    first, second, *_, last = seen
    assert (first.status, first.unfinished, first.jobs_per_second) == ("in_progress", 40, None)
    assert (second.unfinished, second.request_counts.completed) == (30, 10)
    assert second.jobs_per_second is not None
    assert second.eta_seconds == pytest.approx(30 / second.jobs_per_second, rel=0.02)
    assert second.output_tokens_per_second == pytest.approx(2 * second.jobs_per_second, rel=0.02)
    assert "finalizing" in {event.status for event in seen}
    assert (last.status, last.unfinished, last.has_ended) == ("completed", 0, True)
    assert last.usage == get_batch(parts, caller, batch_id).usage


def test_all_watchers_of_a_batch_share_the_looks_at_it(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, manifest({"id": "a", "prompt": "Hi"}))
    watchers = [watch_batch(parts, caller, batch_id) for _ in range(50)]
    statements: list[str] = []
    with parts.database.reading() as db:
        event.listen(db.get_bind(), "before_cursor_execute", lambda *said: statements.append(said[2]))

    events = [next(watcher) for watcher in watchers]

    assert len({id(event) for event in events}) == 1
    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 2
    time.sleep(LOOK_SECONDS)
    again = next(watch_batch(parts, caller, batch_id))
    assert again is not None
    assert again.jobs_per_second == 0  # a second look of the same watch
    for watcher in watchers:
        watcher.close()  # type: ignore[attr-defined]
    anew = next(watch_batch(parts, caller, batch_id))
    assert anew is not None
    assert anew.jobs_per_second is None  # the first look of another
