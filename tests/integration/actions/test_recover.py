"""What was lost on the way is found again, by whoever looks first."""

import threading
from pathlib import Path

import pytest
from workplace import accept, prompts, states, submit, work

from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts, assemble
from service.actions.read_batches import get_batch
from service.actions.recover_lost_work import recover_lost_work
from service.contract.callers import Caller
from service.contract.lifecycle import JobState, WorkerRole
from service.contract.tickets import Export, Ingest
from service.settings import Settings
from service.store import batches, jobs, workers
from service.store.sweeps import SWEEP_CHUNK
from service.store.tables import Batch

QUEUED, RUNNING = JobState.QUEUED, JobState.RUNNING


def without_broker(settings: Settings, tmp_path: Path) -> Parts:
    return assemble(settings.model_copy(update={"redis_url_setting": f"unix://{tmp_path}/nothing.sock"}))


def age(parts: Parts, batch_id: str) -> None:
    """Let it look as if nobody had touched the batch for a long time."""
    with parts.database.transaction() as db:
        batch = db.get_one(Batch, batch_id)
        batch.ingest_moved_at = 1.0
        if batch.closed_at is not None:
            batch.closed_at = 1.0


def test_work_that_nobody_was_told_of_is_named(settings: Settings, tmp_path: Path) -> None:
    parts = without_broker(settings, tmp_path)
    unread, ended = submit(parts, prompts(3)), accept(parts, prompts(1, start=7))
    work(parts)
    age(parts, unread)
    age(parts, ended)

    assert recover_lost_work(parts) == [Ingest(unread), Export(ended)]
    parts.close()


def test_work_that_somebody_does_is_left_to_them(parts: Parts) -> None:
    submit(parts, prompts(3))

    assert recover_lost_work(parts) == []


def test_a_lost_bell_is_rung_again(parts: Parts) -> None:
    batch_id = submit(parts, prompts(3))
    age(parts, batch_id)
    tickets = parts.settings.data_dir / "broker" / "tickets"
    for ticket in tickets.iterdir():
        ticket.unlink()
    again = assemble(parts.settings)

    assert recover_lost_work(again) == []
    assert [path.name.endswith(".io.msg") for path in tickets.iterdir()] == [True]
    again.close()


def test_a_batch_that_nobody_closed_is_closed(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(2))
    with parts.database.transaction() as db:
        owner = workers.register(db, WorkerRole.ENGINE, "test", ["tiny"], None)
        for job in jobs.claim(db, models=["tiny"], owner=owner, limit=5):
            jobs.release(db, [job], owner)
        for job_id in [view.id for view in jobs.page(db, "default", batch_id=batch_id)]:
            jobs.cancel(db, "default", job_id)
    assert get_batch(parts, caller, batch_id).status == "in_progress"

    recover_lost_work(parts)

    assert get_batch(parts, caller, batch_id).status == "finalizing"


def test_a_lost_workers_jobs_are_queued_again(parts: Parts) -> None:
    batch_id = accept(parts, prompts(3))
    with parts.database.transaction() as db:
        owner = workers.register(db, WorkerRole.ENGINE, "test", ["tiny"], None)
        jobs.claim(db, models=["tiny"], owner=owner, limit=2)
    assert states(parts, batch_id) == [RUNNING, RUNNING, QUEUED]
    with parts.database.transaction() as db:
        workers.lose(db, owner, "killed")

    recover_lost_work(parts)

    assert states(parts, batch_id) == [QUEUED] * 3


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_round_reaches_those_who_stand_behind_many_that_have_ended(parts: Parts, caller: Caller) -> None:
    batch_id = accept(parts, prompts(SWEEP_CHUNK + 30))
    work(parts, limit=SWEEP_CHUNK + 10)

    with parts.database.transaction() as db:
        batches.request_cancel(db, caller.tenant_id, batch_id)
    recover_lost_work(parts)

    batch = get_batch(parts, caller, batch_id)
    assert (batch.request_counts.completed, batch.request_counts.cancelled) == (SWEEP_CHUNK + 10, 20)


def test_everybody_may_recover_at_once(settings: Settings, parts: Parts, caller: Caller) -> None:
    batch_ids = [accept(parts, prompts(20)) for _ in range(3)]
    late = submit(parts, prompts(5))
    age(parts, late)
    errors: list[BaseException] = []

    def recover() -> None:
        own = assemble(settings)
        try:
            for _ in range(5):
                recover_lost_work(own)
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()

    keepers = [threading.Thread(target=recover) for _ in range(4)]
    for keeper in keepers:
        keeper.start()
    while work(parts, limit=7):
        pass
    for keeper in keepers:
        keeper.join()
    ingest_manifest(parts, late)

    assert errors == []
    assert [get_batch(parts, caller, batch_id).status for batch_id in batch_ids] == ["finalizing"] * 3
    assert get_batch(parts, Caller(), late).status == "in_progress"
