"""The same server under DeepInfra's and Hugging Face's paths, with the clients that build them; its models."""

import asyncio

import httpx
import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from wire_server import Wire

MODEL = "tiny-gemma4"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("base", ["/v1", "/v1/openai", f"/models/{MODEL}/v1", "/models/default/v1"])
def test_openais_client_works_under_every_path(wire: Wire, base: str) -> None:
    with openai.OpenAI(base_url=wire.url + base, api_key=wire.cats, max_retries=0) as client:
        reply = client.chat.completions.create(model="default", messages=HELLO)  # type: ignore[arg-type]
        assert reply.choices[0].message.content
        assert reply.model == MODEL
        assert MODEL in [model.id for model in client.models.list()]
        stored = client.files.create(file=("a.txt", b"Hello"), purpose="user_data")
        assert client.files.content(stored.id).read() == b"Hello"


@pytest.mark.parametrize(
    "address", ["", "/v1", "/v1/openai/chat/completions", f"/models/{MODEL}", f"/models/{MODEL}/v1"]
)
def test_hugging_faces_client_finds_its_way_from_every_address(wire: Wire, address: str) -> None:
    for named in ({"base_url": wire.url + address}, {"model": wire.url + address}):
        with InferenceClient(**named, api_key=wire.cats, timeout=60) as client:
            assert client.chat_completion(HELLO).model == MODEL
            assert client.chat.completions.create(HELLO, model="default").choices[0].message.content


def test_its_async_client_does_too(wire: Wire) -> None:
    async def ask() -> str:
        address = f"{wire.url}/models/{MODEL}"
        async with AsyncInferenceClient(model=address, token=wire.cats, timeout=60) as client:
            return (await client.chat_completion(HELLO)).model

    assert asyncio.run(ask()) == MODEL


def test_a_model_in_the_address_that_nobody_serves_is_not_found(wire: Wire) -> None:
    with (
        InferenceClient(model=f"{wire.url}/models/org/other", api_key=wire.cats, timeout=60) as client,
        pytest.raises(HfHubHTTPError) as refused,
    ):
        client.chat_completion(HELLO)
    assert refused.value.response.status_code == 404
    assert refused.value.response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("base", ["/v1/openai", f"/models/{MODEL}/v1"])
def test_no_path_leads_around_a_key(wire: Wire, base: str) -> None:
    assert httpx.get(f"{wire.url}{base}/models").status_code == 401


def test_the_list_says_what_a_model_takes_and_how_it_is_stored(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    told = cats.get(f"/v1/models/{MODEL}").json()
    assert told["status"] == "ready"
    assert set(told["input_modalities"]) == {"text", "image", "video", "audio"}
    assert told["context_length"] == 4096
    assert told["aliases"] == ["default"]
    assert told["quantization"]["method"] == "hqq"
    assert told["revision"]
    assert client.models.retrieve("default").id == MODEL
