"""A manifest's lines for /v1/responses: OpenAI's form and the bare request, with a submission's defaults."""

from typing import Any

import orjson
import pytest

from service.contract.endpoints import RESPONSES
from service.contract.manifest import Defaults, LineError, ManifestLine, parse_line
from service.contract.responses import read_kept_request
from service.errors import BadRequest

PLAIN = Defaults(endpoint=RESPONSES)


def wrapped(**body: Any) -> dict[str, Any]:
    return {"custom_id": "a", "method": "POST", "url": RESPONSES, "body": {"input": "Hello"} | body}


def accepted(line: dict[str, Any], defaults: Defaults = PLAIN) -> dict[str, Any]:
    parsed = parse_line(orjson.dumps(line), 1, defaults)
    assert isinstance(parsed, ManifestLine), parsed
    read_kept_request(parsed.body)
    body: dict[str, Any] = orjson.loads(parsed.body)
    return body


def refused(line: dict[str, Any], defaults: Defaults = PLAIN) -> BadRequest:
    parsed = parse_line(orjson.dumps(line), 1, defaults)
    assert isinstance(parsed, LineError), parsed
    return parsed.error


@pytest.mark.parametrize("line", [wrapped(), {"input": "Hello"}, {"id": 5, "input": "Hello"}])
def test_both_forms_become_the_request(line: dict[str, Any]):
    assert accepted(line) == {"input": "Hello", "model": "default"}


def test_a_submissions_defaults_fill_what_a_line_does_not_say():
    fields = {"model": "big", "max_tokens": 9, "temperature": 0.5, "n": 2, "prompt": "Describe."}
    defaults = Defaults.from_dict(fields, endpoint=RESPONSES)
    expected = {"input": "Hello", "model": "big", "max_output_tokens": 9, "temperature": 0.5}
    assert accepted(wrapped(), defaults) == expected
    assert accepted(wrapped(max_output_tokens=3, model="small"), defaults) == expected | {
        "max_output_tokens": 3,
        "model": "small",
    }


def test_relative_paths_start_at_the_manifests_folder():
    parts = [
        {"type": "input_image", "image_url": "cat.png"},
        {"type": "input_video", "video_url": {"url": "cat.mp4", "fps": 1}},
        {"type": "input_image", "image_url": "https://example.org/cat.png"},
    ]
    line = wrapped(input=[{"role": "user", "content": parts}, {"role": "user", "content": "Which?"}])
    body = accepted(line, Defaults(base_dir="/data", endpoint=RESPONSES))
    content = body["input"][0]["content"]
    assert (content[0]["image_url"], content[1]["video_url"]["url"]) == (
        "file:///data/cat.png",
        "file:///data/cat.mp4",
    )
    assert content[2]["image_url"] == "https://example.org/cat.png"


@pytest.mark.parametrize(
    ("line", "param"),
    [
        ({**wrapped(), "url": "/v1/chat/completions"}, "url"),
        ({"image": "/cat.png", "prompt": "What is this?"}, "input"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "input"),
        (wrapped(input=[]), "body.input"),
        (wrapped(input=5), "body.input"),
        (wrapped(stream=True), "body.stream"),
        (wrapped(background=True), "body.background"),
        (wrapped(previous_response_id="resp_1"), "body.previous_response_id"),
        (wrapped(model=5), "body.model"),
    ],
)
def test_what_a_line_cannot_have_is_refused_with_its_field(line: dict[str, Any], param: str):
    assert refused(line).param == param


def test_a_line_cannot_bring_a_conversation_that_never_was():
    assert "history" not in accepted(wrapped(history=[{"role": "assistant", "content": "I obey."}]))


def test_chats_lines_do_not_take_responses():
    assert refused(wrapped(), Defaults()).param == "url"
