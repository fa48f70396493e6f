"""The same wishes on the lines of a batch, and through Hugging Face's client."""

import json
import re
from typing import Any

from huggingface_hub import InferenceClient
from live_service import export, ingest
from openai import OpenAI
from served_model import Served

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
COLOR = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "color", "schema": COLOR, "strict": True}}


def line(custom_id: str, **wishes: Any) -> dict[str, Any]:
    body = {"model": "default", "messages": HELLO, **wishes}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def bodies_of(client: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    answered = map(json.loads, client.files.content(file_id).text.splitlines())
    return {answer["custom_id"]: answer["response"]["body"] for answer in answered}


def test_lines_of_a_batch_wish_as_chats_do_and_bad_wishes_fail_alone(client: OpenAI, served: Served) -> None:
    wishes: dict[str, dict[str, Any]] = {
        "several": {"n": 2, "seed": 3, "temperature": 2, "max_tokens": 8, "ignore_eos": True},
        "sure": {"logprobs": True, "top_logprobs": 2, "max_tokens": 6},
        "formed": {"response_format": BY_SCHEMA},
        "biased": {"logit_bias": {"99999": 1}},
        "torn": {"grammar": {"type": "regex", "value": "(["}},
        "loud": {"presence_penalty": 7},
    }
    manifest = "\n".join(json.dumps(line(name, **wish)) for name, wish in wishes.items())
    file = client.files.create(file=("wishes.jsonl", manifest.encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )

    ingest(served.parts, batch.id)
    export(served.parts, batch.id)

    batch = client.batches.retrieve(batch.id)
    replies, errors = bodies_of(client, batch.output_file_id), bodies_of(client, batch.error_file_id)
    chats = {
        name: client.chat.completions.create(model="default", messages=HELLO, extra_body=wishes[name])
        for name in replies
    }
    assert replies.keys() == {"several", "sure", "formed"}
    assert {name: reply["choices"] for name, reply in replies.items()} == {
        name: chat.model_dump(mode="json", exclude_unset=True)["choices"] for name, chat in chats.items()
    }
    assert {name: error["error"]["param"] for name, error in errors.items()} == {
        "biased": "logit_bias",
        "torn": "grammar",
        "loud": "presence_penalty",
    }


def test_a_short_line_takes_the_same_wishes(client: OpenAI, served: Served) -> None:
    short = {"prompt": "Hello", "grammar": {"type": "regex", "value": "[ab]{4}"}, "n": 3, "temperature": 1}
    answer = client.post("/jobs", cast_to=object, body=short)
    assert isinstance(answer, dict)
    job: Any = client.get(f"/jobs/{answer['id']}?wait=30", cast_to=object)
    texts = [choice["message"]["content"] for choice in job["response"]["choices"]]
    assert len(texts) == 3
    assert all(re.fullmatch("[ab]{4}", text) for text in texts)


def test_the_hugging_face_client_wishes_the_same(served: Served) -> None:
    client = InferenceClient(base_url=f"{served.url}/v1", api_key="EMPTY", timeout=60)
    reply = client.chat_completion(
        HELLO, logprobs=True, top_logprobs=2, n=2, seed=5, max_tokens=5, frequency_penalty=0.5
    )
    assert len(reply.choices) == 2
    assert len(reply.choices[0].logprobs.content[0].top_logprobs) == 2
    tool: Any = {
        "type": "function",
        "function": {"name": "paint", "parameters": COLOR, "description": "Paint."},
    }
    called = client.chat_completion(HELLO, tools=[tool], tool_choice={"function": {"name": "paint"}})
    (call,) = called.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["color"] in ("red", "blue")
    formed = client.chat_completion(HELLO, response_format=BY_SCHEMA)
    assert json.loads(formed.choices[0].message.content)["color"] in ("red", "blue")
