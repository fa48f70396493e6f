"""Several models on one worker: each answers its own jobs, and one that cannot load fails alone."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from service.actions.ingest_manifest import ingest_manifest
from service.actions.known_models import known_models
from service.actions.list_models import list_models
from service.actions.parts import Parts, assemble
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.lifecycle import JobState
from service.errors import ConfigurationError
from service.served_models import FurtherModel
from service.settings import BUNDLED_MODEL, Settings
from service.store.tables import Job, Result, WorkerModel
from workers.device import Device
from workers.model.loading import Loaded, LoadOptions

Eventually = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"])


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two models of the same weights, and one that is not there."""
    more = (
        FurtherModel(model=str(BUNDLED_MODEL), served_name="twin"),
        FurtherModel(model="/nowhere/at-all", served_name="missing"),
    )
    return settings.model_copy(update={"more_models": more})


@pytest.fixture
def device(parts: Parts, loaded: Loaded) -> Any:
    def load(options: LoadOptions) -> Loaded:
        if "nowhere" in options.model:
            raise ConfigurationError("There is no model folder.", hint="Give a folder.")
        return loaded

    device = Device(parts, load=load)
    yield device
    device.stop()


def accepted(parts: Parts, *models: str) -> None:
    lines = [
        orjson.dumps(
            {
                "custom_id": f"{number}-{model}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": model, "messages": [{"role": "user", "content": "Hello"}]},
            }
        )
        + b"\n"
        for number, model in enumerate(models)
    ]
    ingest_manifest(parts, submit_jobs(parts, Caller(), iter(lines), BatchOptions()).id)


def test_every_model_answers_its_own_jobs_and_one_that_cannot_load_fails_alone(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    accepted(parts, *["default", "twin"] * 6)

    device.start()

    def num_answers() -> int:
        with parts.database.reading() as db:
            return sum(state is JobState.SUCCEEDED for state in db.scalars(select(Job.state)))

    eventually(lambda: num_answers() == 12)
    with parts.database.reading() as db:
        bodies = {
            row.custom_id: orjson.loads(row.body)
            for row in db.execute(select(Job.custom_id, Result.body).join(Result, Result.job_id == Job.id))
        }
        states = dict(db.execute(select(WorkerModel.model, WorkerModel.state)).all())
    assert {body["model"] for name, body in bodies.items() if name.endswith("twin")} == {"twin"}
    assert {body["model"] for name, body in bodies.items() if name.endswith("default")} == {"tiny-gemma4"}
    assert states == {"tiny-gemma4": "ready", "twin": "ready", "missing": "failed"}
    listed = {model.id: model for model in list_models(parts)}
    assert {name: model.status for name, model in listed.items()} == states
    twin, missing = listed["twin"], listed["missing"]
    assert twin.input_modalities == ["text", "audio", "image", "video"]
    assert twin.context_length == parts.settings.max_context_tokens
    assert twin.revision
    assert missing.input_modalities is None
    assert known_models(parts)["default"] == "tiny-gemma4"


def test_a_worker_of_which_no_model_loads_says_why_and_ends_for_good(
    settings: Settings, eventually: Eventually
) -> None:
    said: list[tuple[str, int]] = []

    class Noted(Device):
        def _exit(self, sentence: str, code: int) -> None:
            said.append((sentence, code))

    def load(options: LoadOptions) -> Loaded:
        raise ConfigurationError("There is no model folder.", hint="Give a folder.")

    parts = assemble(settings)
    device = Noted(parts, load=load)
    device.start()
    eventually(lambda: bool(said))
    device.stop()
    parts.close()

    assert said == [("There is no model folder. Give a folder.", 78)]
