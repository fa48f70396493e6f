"""Equal requests that may share an answer: computed once, answered each, and never left waiting for nothing."""

import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image
from sqlalchemy import func, select, update

from service.actions.cancel_job import cancel_job
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.lifecycle import JobClass, JobState
from service.store import jobs
from service.store.jobs import NewJob
from service.store.tables import Answer, Job, Result, Worker
from workers.desk import keeper
from workers.device import Device

Eventually = Callable[[Callable[[], bool]], None]
LONG = {"max_tokens": 3000, "ignore_eos": True, "min_tokens": 3000}
LASTING = {"max_tokens": 400, "ignore_eos": True, "min_tokens": 400}
ON_SQLITE = pytest.mark.parametrize("dialect", ["sqlite"])


def accepted(parts: Parts, *lines: dict[str, Any], dedupe: bool = True) -> None:
    """A batch whose lines wait for a worker."""
    raw = (orjson.dumps(line) + b"\n" for line in lines)
    ingest_manifest(parts, submit_jobs(parts, Caller(), raw, BatchOptions(dedupe=dedupe)).id)


def equal(number: int, first: int = 0, **request: Any) -> list[dict[str, Any]]:
    """Equal lines with custom_ids of their own."""
    return [{"id": f"{i}", "prompt": "Hello", **request} for i in range(first, first + number)]


def states(parts: Parts) -> Counter[JobState]:
    with parts.database.reading() as db:
        return Counter(db.scalars(select(Job.state)))


def num_ended(parts: Parts) -> int:
    return sum(number for state, number in states(parts).items() if state.is_terminal)


def replies(parts: Parts) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """(body, provenance) of each result by custom_id."""
    with parts.database.reading() as db:
        rows = db.execute(
            select(Job.custom_id, Result.body, Result.provenance).join(Result, Result.job_id == Job.id)
        )
        return {name: (orjson.loads(body), orjson.loads(facts)) for name, body, facts in rows}


def num_computed(parts: Parts) -> int:
    return sum("reused_from" not in facts for _, facts in replies(parts).values())


def ids_by_age(parts: Parts) -> list[int]:
    with parts.database.reading() as db:
        return list(db.scalars(select(Job.id).order_by(Job.id)))


def texts(bodies: Collection[tuple[dict[str, Any], Any]]) -> set[str]:
    return {str(body["choices"][0]["message"]["content"]) for body, _ in bodies}


def test_a_hundred_equal_lines_are_computed_once_and_answered_each(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, *equal(100))

    device.start()
    eventually(lambda: num_ended(parts) == 100)

    found = replies(parts)
    assert states(parts) == {JobState.SUCCEEDED: 100}
    assert num_computed(parts) == 1
    assert len(texts(found.values())) == 1
    assert len({body["id"] for body, _ in found.values()}) == 100
    first = next(body for body, facts in found.values() if "reused_from" not in facts)
    of_first = first["id"].replace("chatcmpl-", "job_")
    assert {facts.get("reused_from") for _, facts in found.values()} == {None, of_first}
    with parts.database.reading() as db:
        assert db.scalar(select(func.count()).select_from(Answer)) == 1


@ON_SQLITE
def test_without_dedupe_every_line_runs_and_nothing_is_kept(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, *equal(9), dedupe=False)

    device.start()
    eventually(lambda: num_ended(parts) == 9)

    assert num_computed(parts) == 9
    with parts.database.reading() as db:
        assert db.scalar(select(func.count()).select_from(Answer)) == 0


@ON_SQLITE
def test_where_the_first_fails_the_next_is_tried(
    parts: Parts, device: Device, tmp_path: Path, eventually: Eventually
) -> None:
    broken = tmp_path / "broken.png"
    Image.new("RGB", (64, 64), "red").save(broken)
    broken.write_bytes(broken.read_bytes()[:60])
    accepted(parts, *equal(6, image=str(broken)))

    device.start()
    eventually(lambda: num_ended(parts) == 6)

    assert states(parts) == {JobState.FAILED: 6}
    assert {body["param"] for body, _ in replies(parts).values()} == {"messages[0].content[0].image_url"}


@ON_SQLITE
def test_where_the_first_is_cancelled_the_next_is_computed(
    parts: Parts, device: Device, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LISTENER_SECONDS", 0.1)
    accepted(parts, *equal(4, **LASTING))
    device.start()
    eventually(lambda: states(parts)[JobState.RUNNING] == 4)

    cancel_job(parts, Caller(), ids_by_age(parts)[0])
    eventually(lambda: num_ended(parts) == 4)

    assert states(parts) == {JobState.CANCELLED: 1, JobState.SUCCEEDED: 3}
    assert num_computed(parts) == 1
    assert len(texts(replies(parts).values())) == 1


@ON_SQLITE
def test_one_that_waits_can_be_cancelled_while_the_first_runs_on(
    parts: Parts, device: Device, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LISTENER_SECONDS", 0.1)
    accepted(parts, *equal(4, **LONG))
    device.start()
    eventually(lambda: states(parts)[JobState.RUNNING] == 4)

    cancel_job(parts, Caller(), ids_by_age(parts)[2])
    eventually(lambda: num_ended(parts) == 1)

    assert states(parts) == {JobState.CANCELLED: 1, JobState.RUNNING: 3}


@ON_SQLITE
def test_a_drained_worker_gives_back_those_that_wait_too(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, *equal(6, **LONG))
    device.start()
    eventually(lambda: states(parts)[JobState.RUNNING] == 6)

    device.stop()

    with parts.database.reading() as db:
        left = db.execute(select(Job.state, Job.attempt, Job.owner, Job.crashes)).all()
    assert left == [(JobState.QUEUED, 0, None, 0)] * 6


@ON_SQLITE
def test_a_lost_lease_leaves_nobody_waiting(parts: Parts, device: Device, eventually: Eventually) -> None:
    accepted(parts, *equal(6, **LASTING))
    device.start()
    eventually(lambda: states(parts)[JobState.RUNNING] == 6)

    with parts.database.transaction() as db:
        db.execute(update(Worker).values(lease_until=0.0))
    eventually(lambda: num_ended(parts) == 6)

    assert states(parts) == {JobState.SUCCEEDED: 6}
    assert num_computed(parts) == 1
    with parts.database.reading() as db:
        assert db.scalar(select(func.max(Job.attempt))) == 2


@ON_SQLITE
def test_a_picture_that_has_changed_is_looked_at_again(
    parts: Parts, device: Device, tmp_path: Path, eventually: Eventually
) -> None:
    path = tmp_path / "picture.png"
    lines = equal(1, image=str(path), prompt="Describe this image.")
    device.start()
    for number, color in enumerate(("red", "red", "blue"), start=1):
        Image.new("RGB", (64, 64), color).save(path)
        # A file that was written a moment ago is not trusted to be at rest.
        eventually(lambda: _is_at_rest(path))
        accepted(parts, *({**line, "id": f"{color}-{number}"} for line in lines))
        eventually(lambda wanted=number: num_ended(parts) == wanted)  # type: ignore[misc]

    reused = {name: facts.get("reused_from") for name, (_, facts) in replies(parts).items()}
    assert [bool(reused[name]) for name in ("red-1", "red-2", "blue-3")] == [False, True, False]


def _is_at_rest(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > 0.1


@ON_SQLITE
def test_tool_calls_that_are_given_again_have_ids_of_their_own(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    parameters = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    body = {
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": [tool],
        "tool_choice": "required",
        "max_tokens": 200,
    }
    accepted(parts, {**body, "model": "default"}, {**body, "model": "default"})

    device.start()
    eventually(lambda: num_ended(parts) == 2)

    with parts.database.reading() as db:
        bodies = [orjson.loads(raw) for raw in db.scalars(select(Result.body))]
    calls = [body["choices"][0]["message"]["tool_calls"][0] for body in bodies]
    assert calls[0]["function"] == calls[1]["function"]
    assert calls[0]["id"] != calls[1]["id"]


@ON_SQLITE
def test_equal_chats_that_do_not_stream_share_an_answer(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    body = orjson.dumps({"messages": [{"role": "user", "content": "Hello"}], **LASTING})
    with parts.database.transaction() as db:
        for _ in range(3):
            chat = NewJob("default", "tiny-gemma4", body, job_class=JobClass.CHAT, reuse=True)
            jobs.insert_chat(db, chat)

    device.start()
    eventually(lambda: num_ended(parts) == 3)

    with parts.database.reading() as db:
        facts = [orjson.loads(raw) for raw in db.scalars(select(Result.provenance))]
    assert sum("reused_from" in each for each in facts) == 2
