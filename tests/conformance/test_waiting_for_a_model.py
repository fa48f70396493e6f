"""A service whose worker still loads: who waits is answered, who does not is told when to come again."""

import threading
import time
from collections.abc import Iterator

import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from live_service import MODEL, service
from scripted_worker import ScriptedWorker

from service.actions.parts import Parts
from service.contract.lifecycle import WorkerRole
from service.store import workers

SAY_HI = [{"role": "user", "content": "say hi"}]


@pytest.fixture(scope="module")
def loading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Parts, str]]:
    """The service's parts and URL; a worker has begun to load the model."""
    with service(tmp_path_factory.mktemp("loading")) as (parts, url, _):
        with parts.database.transaction() as db:
            workers.register(db, WorkerRole.ENGINE, "test", [MODEL], "cpu", lease_seconds=600)
        yield parts, url


def test_hugging_faces_client_hears_at_once_how_long_it_may_take(loading: tuple[Parts, str]):
    _, url = loading
    began = time.monotonic()
    with (
        InferenceClient(base_url=url, api_key="EMPTY", timeout=30) as client,
        pytest.raises(HfHubHTTPError) as refused,
    ):
        client.chat_completion(SAY_HI)
    assert time.monotonic() - began < 5
    response = refused.value.response
    told = response.json()
    assert response.status_code == 503
    assert 0 < told["estimated_time"] == told["error"]["estimated_time"]
    assert told["error"]["message"] == f"The model '{MODEL}' is loading."
    assert int(response.headers["Retry-After"]) <= 120


def test_openais_client_knows_it_for_an_error_that_a_retry_can_help(loading: tuple[Parts, str]):
    _, url = loading
    with openai.OpenAI(base_url=f"{url}/v1", api_key="EMPTY", max_retries=0) as client:
        assert client.models.retrieve(MODEL).status == "loading"
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model=MODEL, messages=SAY_HI)
    assert (refused.value.status_code, refused.value.code) == (503, "model_not_ready")


def test_who_waits_is_answered_when_the_model_is_there(loading: tuple[Parts, str]):
    parts, url = loading
    heard: list[str] = []

    def ask() -> None:
        headers = {"x-wait-for-model": "true"}
        with InferenceClient(base_url=url, api_key="EMPTY", headers=headers, timeout=30) as client:
            heard.append(client.chat_completion(SAY_HI).choices[0].message.content)

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(1)
    assert waiting.is_alive()
    worker = ScriptedWorker(parts, MODEL)
    worker.start()
    waiting.join(timeout=15)
    worker.stop()
    assert heard == ["hi"]
