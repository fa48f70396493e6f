"""From a queued row to a recorded answer, on both databases."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from PIL import Image
from sqlalchemy import delete, func, make_url, select, update

from service.actions.cancel_job import cancel_job
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.lifecycle import BatchState, JobState
from service.store.database import database_now
from service.store.tables import Batch, Job, Lane, Result, Worker
from workers.device import Device

Eventually = Callable[[Callable[[], bool]], None]
LONG = {"max_tokens": 3000, "ignore_eos": True, "min_tokens": 3000}
LASTING = {"max_tokens": 400, "ignore_eos": True, "min_tokens": 400}


def accepted(parts: Parts, *lines: dict[str, Any]) -> str:
    """A batch whose lines wait for a worker."""
    raw = (orjson.dumps(line) + b"\n" for line in lines)
    batch_id = submit_jobs(parts, Caller(), raw, BatchOptions()).id
    ingest_manifest(parts, batch_id)
    return batch_id


def states(parts: Parts) -> Counter[JobState]:
    with parts.database.reading() as db:
        return Counter(db.scalars(select(Job.state)))


def batch_state(parts: Parts, batch_id: str) -> BatchState | None:
    with parts.database.reading() as db:
        return db.scalar(select(Batch.state).where(Batch.id == batch_id))


def num_ended(parts: Parts) -> int:
    return sum(number for state, number in states(parts).items() if state.is_terminal)


def results(parts: Parts) -> dict[str, dict[str, Any]]:
    """The result bodies by custom id."""
    with parts.database.reading() as db:
        rows = db.execute(select(Job.custom_id, Result.body).join(Result, Result.job_id == Job.id))
        return {row.custom_id: orjson.loads(row.body) for row in rows}


def text_of(body: dict[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"])


def picture(folder: Path, name: str = "red.png") -> str:
    path = folder / name
    Image.new("RGB", (64, 64), "red").save(path)
    return str(path)


def test_every_line_ends_with_one_answer_and_the_batch_closes(
    parts: Parts, device: Device, tmp_path: Path, eventually: Eventually
) -> None:
    image = picture(tmp_path)
    lines = [{"id": f"line-{i}", "image": image, "prompt": "Describe this image."} for i in range(9)]
    batch_id = accepted(parts, *lines)

    device.start()
    eventually(lambda: num_ended(parts) == 9)

    answers = results(parts)
    assert states(parts) == {JobState.SUCCEEDED: 9}
    assert len({text_of(body) for body in answers.values()}) == 1
    usage = answers["line-0"]["usage"]
    assert usage["prompt_tokens_details"]["image_tokens"] == 64
    assert usage["completion_tokens"] > 0
    eventually(lambda: batch_state(parts, batch_id) is BatchState.FINALIZING)
    with parts.database.reading() as db:
        provenance = orjson.loads(db.scalars(select(Result.provenance)).first() or b"{}")
    assert (provenance["model"], provenance["attempt"]) == ("tiny-gemma4", 1)


def test_a_bad_line_fails_alone_with_its_field_and_reason(
    parts: Parts, device: Device, tmp_path: Path, eventually: Eventually
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(picture(tmp_path)).read_bytes()[:60])
    accepted(
        parts,
        {"id": "broken", "image": str(broken), "prompt": "Describe this image."},
        {"id": "missing", "image": str(tmp_path / "gone.png"), "prompt": "Describe this image."},
        {"id": "outside", "image": "/etc/hostname", "prompt": "Describe this image."},
        {"id": "hot", "prompt": "Hello", "temperature": 9},
        {"id": "good", "prompt": "Hello"},
    )

    device.start()
    eventually(lambda: num_ended(parts) == 5)

    assert states(parts) == {JobState.FAILED: 4, JobState.SUCCEEDED: 1}
    errors = {name: body for name, body in results(parts).items() if name != "good"}
    assert errors["hot"]["param"] == "temperature"
    for name in ("broken", "missing", "outside"):
        assert errors[name]["param"].startswith("messages[0].content[0]"), errors[name]
        assert errors[name]["retryable"] is False
    assert str(tmp_path) not in errors["outside"]["message"]


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, {"id": "whole", "prompt": "Hello"}, {"id": "cut", "prompt": "Hello", "stop": ["tiny"]})

    device.start()
    eventually(lambda: num_ended(parts) == 2)

    answers = results(parts)
    whole, cut = text_of(answers["whole"]), text_of(answers["cut"])
    assert "tiny" in whole
    assert cut == whole[: whole.index("tiny")]
    assert answers["cut"]["choices"][0]["finish_reason"] == "stop"


def test_a_job_is_cancelled_while_it_runs_and_its_neighbour_goes_on(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, {"id": "long", "prompt": "Hello", **LONG}, {"id": "short", "prompt": "Hello"})
    device.start()
    eventually(lambda: states(parts)[JobState.RUNNING] >= 1)
    with parts.database.reading() as db:
        job_id = db.scalar(select(Job.id).where(Job.custom_id == "long"))
    assert job_id is not None

    cancel_job(parts, Caller(), job_id)
    eventually(lambda: num_ended(parts) == 2)

    assert states(parts) == {JobState.CANCELLED: 1, JobState.SUCCEEDED: 1}


def test_a_drained_worker_gives_its_jobs_back_without_a_burnt_attempt(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, *({"id": f"{i}", "prompt": "Hello", **LONG} for i in range(6)))
    device.start()
    eventually(lambda: states(parts)[JobState.RUNNING] == 6)

    device.stop()

    with parts.database.reading() as db:
        left = db.execute(select(Job.state, Job.attempt, Job.owner, Job.crashes)).all()
        assert left == [(JobState.QUEUED, 0, None, 0)] * 6
        assert db.scalars(select(Worker.dead)).all() == [True]


def test_a_worker_that_lost_its_lease_comes_back_under_a_new_name_and_nothing_is_written_twice(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, *({"id": f"{i}", "prompt": "Hello", **LASTING} for i in range(8)))
    device.start()
    eventually(lambda: states(parts)[JobState.RUNNING] >= 1)

    with parts.database.transaction() as db:
        db.execute(update(Worker).values({"lease_until": database_now() - 1}))
    eventually(lambda: num_ended(parts) == 8)

    assert states(parts) == {JobState.SUCCEEDED: 8}
    with parts.database.reading() as db:
        assert db.scalar(select(func.count()).select_from(Result)) == 8
        assert sorted(db.scalars(select(Worker.dead))) == [False, True]
        assert db.scalar(select(func.max(Job.attempt))) == 2


def test_a_solo_suspect_runs_with_nobody_beside_it(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, *({"id": f"{i}", "prompt": "Hello"} for i in range(8)))
    with parts.database.transaction() as db:
        db.execute(update(Job).where(Job.custom_id == "5").values(crashes=2))

    device.start()
    eventually(lambda: num_ended(parts) == 8)

    assert states(parts) == {JobState.SUCCEEDED: 8}
    with parts.database.reading() as db:
        ended = dict(db.execute(select(Job.custom_id, Job.finished_at)).all())
    assert all(ended["5"] < at for name, at in ended.items() if name != "5")


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_retryable_trouble_is_tried_again_and_an_answer_is_not(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, {"id": "once", "prompt": "Hello"})
    device.start()
    eventually(lambda: num_ended(parts) == 1)
    time.sleep(3 * parts.settings.poll_seconds)

    with parts.database.reading() as db:
        assert db.scalars(select(Job.attempt)).all() == [1]


@pytest.mark.parametrize("dialect", [pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_answers_wait_for_a_database_that_went_away(
    parts: Parts,
    device: Device,
    eventually: Eventually,
    database_url: str,
    postgres_server: Callable[[str], str],
) -> None:
    accepted(parts, *({"id": f"{i}", "prompt": "Hello"} for i in range(24)))
    device.start()
    eventually(lambda: states(parts)[JobState.SUCCEEDED] >= 1)

    name = make_url(database_url).database
    with psycopg.connect(postgres_server("postgres"), autocommit=True) as server:
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        time.sleep(1.0)
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
    eventually(lambda: num_ended(parts) == 24)

    assert states(parts) == {JobState.SUCCEEDED: 24}
    with parts.database.reading() as db:
        assert db.scalar(select(func.count()).select_from(Result)) == 24


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_jobs_without_a_seed_draw_differently_and_a_second_attempt_says_the_same(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    hot = {"prompt": "Hello", "temperature": 2, "max_tokens": 40, "ignore_eos": True}
    accepted(parts, *({"id": f"{i}", **hot} for i in range(3)))
    device.start()
    eventually(lambda: num_ended(parts) == 3)
    first = {name: text_of(body) for name, body in results(parts).items()}
    with parts.database.transaction() as db:
        db.execute(delete(Result))
        db.execute(update(Job).values(state=JobState.QUEUED, finished_at=None))
        db.execute(update(Lane).values(active=True))

    eventually(lambda: len(results(parts)) == 3)

    assert {name: text_of(body) for name, body in results(parts).items()} == first
    assert len(set(first.values())) == 3
