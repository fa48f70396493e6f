"""Texts and conversations as tokens, and back."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
from PIL import Image
from wire_server import Wire


def tokenized(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/tokenize", json={"model": "default", **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refused(client: httpx.Client, path: str, **body: Any) -> tuple[int, str | None]:
    answer = client.post(path, json={"model": "default", **body})
    return answer.status_code, answer.json()["error"]["param"]


def picture(width: int = 64) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (width, 64), "red").save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def test_text_goes_to_tokens_and_back(cats: httpx.Client) -> None:
    text = "A red square, and a naïve café. 🙂"
    told = tokenized(cats, prompt=text, add_special_tokens=False, return_token_strs=True)

    assert told["count"] == len(told["tokens"]) == len(told["token_strs"]) > 5
    assert told["max_model_len"] > 1000
    back = cats.post("/v1/detokenize", json={"model": "default", "tokens": told["tokens"]})
    assert back.json() == {"prompt": text}


def test_special_tokens_begin_a_prompt_unless_they_are_not_wanted(cats: httpx.Client) -> None:
    bare = tokenized(cats, prompt="Hello", add_special_tokens=False)
    begun = tokenized(cats, prompt="Hello")

    assert bare["token_strs"] is None
    assert begun["tokens"][-bare["count"] :] == bare["tokens"]


def test_a_conversation_has_the_tokens_that_its_answer_is_charged_for(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    messages: list[Any] = [
        {"role": "user", "content": [picture(), {"type": "text", "text": "Describe this image."}]}
    ]
    told = tokenized(cats, messages=messages)
    reply = client.chat.completions.create(model="default", messages=messages, max_tokens=1)

    assert reply.usage is not None
    assert told["count"] == reply.usage.prompt_tokens
    split = told["prompt_tokens_details"]
    assert split["image_tokens"] == 64
    assert split["text_tokens"] + split["image_tokens"] == told["count"]
    shorter = tokenized(cats, messages=messages, add_generation_prompt=False)
    assert 0 < shorter["count"] < told["count"]


def test_a_chat_is_answered_while_a_long_text_is_counted(wire: Wire, cats: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    with ThreadPoolExecutor(1) as hands, httpx.Client(base_url=wire.url, headers=cats.headers) as other:
        counting = hands.submit(tokenized, cats, prompt="every word counts " * 30_000)
        answer = other.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 2})

        assert answer.status_code == 200
        assert not counting.done()
        assert counting.result()["count"] > 60_000


def test_a_long_text_leaves_nothing_on_the_disk(wire: Wire, cats: httpx.Client) -> None:
    bodies = wire.data_dir / "blobs" / "bodies"
    before = set(bodies.glob("*"))
    tokenized(cats, prompt="word " * 30_000)

    assert bodies.is_dir()
    assert set(bodies.glob("*")) == before


def test_what_cannot_be_is_refused_by_name(cats: httpx.Client) -> None:
    assert refused(cats, "/v1/detokenize", tokens=[1, 10**8]) == (400, "tokens[1]")
    assert refused(cats, "/v1/detokenize", tokens=[-1]) == (400, "tokens[0]")
    assert refused(cats, "/v1/detokenize", tokens="1, 2") == (400, "tokens")
    assert refused(cats, "/v1/tokenize") == (400, "prompt")
    assert refused(cats, "/v1/tokenize", prompt=["a", "b"]) == (400, "prompt")
    assert refused(cats, "/v1/tokenize", prompt="x" * (1 << 20) + "x") == (400, "prompt")
    assert refused(cats, "/v1/tokenize", prompt="a", messages=[{"role": "user", "content": "a"}]) == (
        400,
        "prompt",
    )
    bad_picture = {"type": "image_url", "image_url": {"url": "file-000000000000000000000000"}}
    messages = [{"role": "user", "content": [bad_picture]}]
    status, param = refused(cats, "/v1/tokenize", messages=messages)
    assert (status, param) == (422, "messages[0].content[0].image_url")
    assert refused(cats, "/v1/tokenize", model="nobody", prompt="a") == (404, "model")


def test_a_field_that_nobody_knows_is_named(cats: httpx.Client) -> None:
    answer = cats.post("/v1/tokenize", json={"model": "default", "prompt": "Hello", "surprise": 1})

    assert answer.headers["x-sluice-ignored"] == "surprise"
