"""A chat with no broker at all, one that nobody answers, and one that has nothing to say for a while."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from flask.testing import FlaskClient
from scripted_worker import ScriptedWorker

from service.actions.parts import Parts, assemble
from service.api import listening
from service.api.app import create_app
from service.contract.lifecycle import JobState
from service.settings import Settings
from service.store import jobs
from service.store.schema import migrate

MODEL = "scripted"
PATH = "/v1/chat/completions"


def body_of(text: str, **fields) -> dict:
    return {"messages": [{"role": "user", "content": text}], **fields}


@pytest.fixture
def parts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Parts]:
    settings = Settings(
        data_dir=tmp_path,
        redis_url_setting=None,
        served_name=MODEL,
        chat_timeout_seconds=getattr(request, "param", 30.0),
    )
    migrate(settings.database_url)
    parts = assemble(settings)
    yield parts
    parts.close()


@pytest.fixture
def worker(parts: Parts) -> Iterator[ScriptedWorker]:
    worker = ScriptedWorker(parts, MODEL)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def http(parts: Parts) -> FlaskClient:
    return create_app(parts=parts).test_client()


def state_of(parts: Parts, job_id: int) -> JobState:
    with parts.database.reading() as db:
        view = jobs.get(db, "default", job_id)
    assert view is not None
    return view.state


@pytest.mark.usefixtures("worker")
def test_a_stream_without_a_broker_tells_the_whole_answer_from_sql(http: FlaskClient):
    told = http.post(PATH, json=body_of("say it all", stream=True)).text
    assert '"content":"it all"' in told
    assert told.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("parts", [0.5], indirect=True, ids=["half a second"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_that_nobody_takes_is_given_up_and_cancelled(http: FlaskClient, parts: Parts, stream: bool):
    response = http.post(PATH, json=body_of("say hi", stream=stream), headers={"x-wait-for-model": "true"})
    assert response.status_code == 504
    assert response.json["error"]["code"] == "timeout"
    assert state_of(parts, 1) is JobState.CANCELLED


def test_a_stream_says_now_and_then_that_it_is_alive_and_its_end_frees_the_slot(
    http: FlaskClient, parts: Parts, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listening, "KEEP_ALIVE_SECONDS", 0.1)
    response = http.post(PATH, json=body_of("stall", stream=True))
    pieces: Iterator[bytes] = iter(response.response)
    assert orjson.loads(next(pieces)[6:])["choices"][0]["delta"]["role"] == "assistant"
    assert next(pieces) == b": keep-alive\n\n"
    response.close()
    assert _soon(lambda: worker.cancelled == [1])
    assert _soon(lambda: state_of(parts, 1) is JobState.CANCELLED)


def _soon(happens: Callable[[], bool], seconds: float = 5) -> bool:
    give_up = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True
