"""Which models may be asked for, and what is told of them while their workers come and go."""

import pytest
from sqlalchemy import select, update

from service.actions.forget_expired import WORKER_SECONDS, forget_expired
from service.actions.known_models import known_models, served_name
from service.actions.list_models import get_model, list_models
from service.actions.model_states import USUAL_LOAD_SECONDS
from service.actions.parts import Parts
from service.actions.readiness import require_model
from service.contract.lifecycle import WorkerRole
from service.errors import ModelNotReady, UnknownModel
from service.store import workers
from service.store.database import database_now
from service.store.tables import Worker, WorkerModel

FACTS = {
    "input_modalities": ["text", "image"],
    "context_length": 4096,
    "quantization": {"method": "hqq", "bits": 4, "group_size": 64, "num_layers": 12},
    "dtype": "bfloat16",
    "load_seconds": 90.0,
}


def joins(parts: Parts, *models: str) -> str:
    with parts.database.transaction() as db:
        return workers.register(db, WorkerRole.ENGINE, "test", models, "cpu")


def says(parts: Parts, worker_id: str, model: str, state: str) -> None:
    facts = FACTS if state == "ready" else None
    with parts.database.transaction() as db:
        workers.set_model_state(db, worker_id, model, state, "r1", facts)


def started_ago(parts: Parts, worker_id: str, seconds: float) -> None:
    began = {"started_at": database_now() - seconds}
    with parts.database.transaction() as db:
        db.execute(update(Worker).where(Worker.id == worker_id).values(began))


def left_ago(parts: Parts, worker_id: str, seconds: float) -> None:
    with parts.database.transaction() as db:
        workers.retire(db, worker_id, "drained")
        left = {"lease_until": database_now() - seconds}
        db.execute(update(Worker).where(Worker.id == worker_id).values(left))


def test_a_ready_model_tells_what_it_takes(parts: Parts) -> None:
    says(parts, joins(parts, "tiny"), "tiny", "ready")

    model = get_model(parts, "default")

    assert (model.id, model.status, model.revision, model.context_length) == ("tiny", "ready", "r1", 4096)
    assert model.input_modalities == ["text", "image"]
    assert model.quantization is not None
    assert (model.quantization.bits, model.dtype) == (4, "bfloat16")
    assert model.created > 1_600_000_000
    assert model.estimated_time is None


def test_the_path_of_a_models_folder_is_an_alias_that_is_told_to_nobody(parts: Parts) -> None:
    assert parts.settings.model.startswith("/")
    assert known_models(parts)[parts.settings.model] == "tiny"
    assert get_model(parts, "tiny").aliases == ["default"]


def test_the_best_of_several_workers_decides_a_models_status(parts: Parts) -> None:
    first, second, third = (joins(parts, "tiny") for _ in range(3))
    seen = [get_model(parts, "tiny").status]
    for worker, state in ((first, "failed"), (second, "failed"), (third, "failed"), (second, "ready")):
        says(parts, worker, "tiny", state)
        seen.append(get_model(parts, "tiny").status)
    assert seen == ["loading", "loading", "loading", "failed", "ready"]


def test_a_configured_model_is_listed_with_no_worker_at_all(parts: Parts) -> None:
    assert [(model.id, model.status) for model in list_models(parts)] == [("tiny", "not_ready")]


def test_a_model_that_only_a_worker_has_is_known_until_some_time_after_it_has_gone(parts: Parts) -> None:
    worker = joins(parts, "elsewhere")
    says(parts, worker, "elsewhere", "ready")
    assert served_name(parts, "elsewhere") == "elsewhere"

    left_ago(parts, worker, parts.settings.model_grace_seconds - 5)
    assert get_model(parts, "elsewhere").status == "not_ready"

    left_ago(parts, worker, parts.settings.model_grace_seconds + 5)
    with pytest.raises(UnknownModel):
        served_name(parts, "elsewhere")
    assert [model.id for model in list_models(parts)] == ["tiny"]


def test_a_worker_that_crashed_is_waited_for_like_one_that_left(parts: Parts) -> None:
    worker = joins(parts, "elsewhere")
    with parts.database.transaction() as db:
        workers.lose(db, worker, "it hung")
    assert served_name(parts, "elsewhere") == "elsewhere"


def test_workers_that_have_long_left_are_forgotten_with_their_models(parts: Parts) -> None:
    gone, recent, alive = (joins(parts, "tiny") for _ in range(3))
    left_ago(parts, gone, WORKER_SECONDS + parts.settings.model_grace_seconds + 60)
    left_ago(parts, recent, WORKER_SECONDS)

    forget_expired(parts)

    with parts.database.reading() as db:
        assert set(db.scalars(select(Worker.id))) == {recent, alive}
        assert set(db.scalars(select(WorkerModel.worker_id))) == {recent, alive}


def test_the_estimate_is_what_loading_took_before_less_what_it_has_taken_now(parts: Parts) -> None:
    before = joins(parts, "tiny")
    says(parts, before, "tiny", "ready")
    left_ago(parts, before, parts.settings.model_grace_seconds * 2)
    again = joins(parts, "tiny")
    started_ago(parts, again, 30)

    with pytest.raises(ModelNotReady) as refused:
        require_model(parts, "tiny")

    assert refused.value.estimated_time == pytest.approx(60, abs=3)
    assert refused.value.retry_after == refused.value.estimated_time
    assert get_model(parts, "tiny").estimated_time == pytest.approx(60, abs=3)


def test_without_any_history_the_estimate_is_a_guess_and_never_below_a_second(parts: Parts) -> None:
    worker = joins(parts, "tiny")
    told = []
    for seconds in (0, 1000):
        started_ago(parts, worker, seconds)
        with pytest.raises(ModelNotReady) as refused:
            require_model(parts, "tiny")
        told.append(refused.value.estimated_time)
    assert told == [pytest.approx(USUAL_LOAD_SECONDS, abs=2), 1.0]


def test_who_waits_waits_for_what_may_still_load_and_not_for_what_has_failed(parts: Parts) -> None:
    require_model(parts, "tiny", may_load=True)
    worker = joins(parts, "tiny")
    require_model(parts, "tiny", may_load=True)
    says(parts, worker, "tiny", "failed")
    with pytest.raises(ModelNotReady, match="could not be loaded"):
        require_model(parts, "tiny", may_load=True)


def test_facts_that_another_release_wrote_are_left_out_rather_than_fatal(parts: Parts) -> None:
    with parts.database.transaction() as db:
        worker = workers.register(db, WorkerRole.ENGINE, "test", ["tiny"], "cpu")
        workers.set_model_state(db, worker, "tiny", "ready", "r1", {"shape": "unknown"})
    model = get_model(parts, "tiny")
    assert (model.status, model.context_length) == ("ready", None)


@pytest.mark.parametrize(
    ("asked", "path_model", "served"),
    [
        ("default", None, "tiny"),
        ("tgi", None, "tiny"),
        ("dummy", "elsewhere", "elsewhere"),
        ("default", "elsewhere", "elsewhere"),
        ("tiny", "elsewhere", "tiny"),
        ("elsewhere", "nothing-of-the-kind", "elsewhere"),
    ],
)
def test_a_model_in_the_address_stands_in_where_the_body_names_none(
    parts: Parts, asked: str, path_model: str | None, served: str
) -> None:
    joins(parts, "elsewhere")
    assert served_name(parts, asked, path_model) == served


@pytest.mark.parametrize(("asked", "path_model"), [("gpt-99", "tiny"), ("tgi", "gpt-99"), ("gpt-99", None)])
def test_a_model_that_nobody_serves_is_not_found_wherever_it_is_named(
    parts: Parts, asked: str, path_model: str | None
) -> None:
    with pytest.raises(UnknownModel, match="gpt-99"):
        served_name(parts, asked, path_model)
