"""Finding jobs by the names that their senders gave them."""

import pytest
from sqlalchemy import event
from workplace import accept, manifest, work

from service.actions.parts import Parts
from service.actions.read_jobs import list_jobs
from service.actions.submit_job import submit_job
from service.contract.callers import Caller
from service.contract.lifecycle import JobState


def ids(parts: Parts, caller: Caller, **filters: object) -> list[str]:
    return [job.id for job in list_jobs(parts, caller, **filters).data]  # type: ignore[arg-type]


def test_jobs_are_found_by_custom_id_in_a_batch_in_all_batches_and_outside(
    parts: Parts, caller: Caller
) -> None:
    lines = manifest(*({"id": name, "prompt": "Hi"} for name in ("a", "b", "c")))
    first, second = accept(parts, lines), accept(parts, lines)
    single = submit_job(parts, caller, b'{"custom_id": "b", "prompt": "Hi"}').id
    of_first = ids(parts, caller, batch_id=first)
    of_second = ids(parts, caller, batch_id=second)

    assert ids(parts, caller, batch_id=first, custom_id="b") == [of_first[1]]
    assert ids(parts, caller, custom_id="b") == [of_first[1], of_second[1], single]
    assert ids(parts, caller, custom_id="b", after=of_first[1]) == [of_second[1], single]
    page = list_jobs(parts, caller, custom_id="b", limit=2)
    assert (len(page.data), page.has_more, page.last_id) == (2, True, of_second[1])
    assert ids(parts, caller, custom_id="nobody") == []
    assert ids(parts, caller, custom_id="b\0") == []
    assert ids(parts, Caller("somebody"), custom_id="b") == []
    assert ids(parts, Caller("somebody"), batch_id=first, custom_id="b") == []

    work(parts, limit=1)
    assert ids(parts, caller, custom_id="a", states=[JobState.SUCCEEDED]) == [of_first[0]]
    assert ids(parts, caller, custom_id="a", states=[JobState.QUEUED]) == [of_second[0]]
    ended = list_jobs(parts, caller, custom_id="a").data[0]
    assert ended.finished_at is not None
    assert ended.created_at is not None
    assert ended.finished_at >= ended.created_at


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_name_is_looked_up_in_indexes_alone(parts: Parts, caller: Caller) -> None:
    accept(parts, manifest({"id": "a", "prompt": "Hi"}))
    asked: list[tuple[str, object]] = []
    with parts.database.reading() as db:
        event.listen(db.get_bind(), "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))
    list_jobs(parts, caller, custom_id="a")
    statement, values = asked[-1]
    with parts.database.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()  # type: ignore[arg-type]

    assert not [step for step in plan if "SCAN" in step[-1]], plan
