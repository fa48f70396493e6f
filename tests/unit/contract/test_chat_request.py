"""The chat request: what we obey, what we name as ignored, and what we refuse with its field."""

from typing import Any

import orjson
import pytest

from service.contract.media import MediaKind
from service.contract.openai import ignored_fields, media_refs, parse_chat_request, template_messages
from service.contract.sampling import MAX_CHOICES, seed_of
from service.errors import BadRequest

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
REGEX = {"type": "regex", "value": "[a-z]+"}
TOOL = {"type": "function", "function": {"name": "look_up"}}
NAMED = {"type": "function", "function": {"name": "look_up"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "cat"}'}}


def parsed(**fields: Any):
    return parse_chat_request(orjson.dumps(HELLO | fields))


def of_parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def refusal(body: dict[str, Any] | bytes) -> BadRequest:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(BadRequest) as refused:
        parse_chat_request(raw)
    return refused.value


def test_a_plain_request_is_greedy_and_asks_for_the_default_model():
    request = parsed()
    assert (request.model, request.sampling_temperature, request.max_answer_tokens) == ("default", 0.0, None)


def test_max_completion_tokens_goes_before_max_tokens():
    assert parsed(max_tokens=5, max_completion_tokens=9).max_answer_tokens == 9


@pytest.mark.parametrize(("given", "stops"), [(None, []), ("END", ["END"]), (["a", "b"], ["a", "b"])])
def test_stop_is_a_string_a_list_or_nothing(given, stops):
    assert parsed(stop=given).stop == stops


def test_media_keep_the_order_of_the_conversation_and_say_where_they_stand():
    body = of_parts(
        {"type": "image_url", "image_url": {"url": "file:///a.png", "max_pixels": 900}},
        {"type": "text", "text": "Which came first?"},
        {"type": "video_url", "video_url": {"url": "file-1", "fps": 2, "num_frames": 8}},
        {"type": "audio_url", "audio_url": "file-2"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-3", "filename": "clip.MP4"}},
    )
    refs = media_refs(parse_chat_request(orjson.dumps(body)))
    assert [(ref.kind, ref.url, ref.param.rpartition(".")[0]) for ref in refs] == [
        (MediaKind.IMAGE, "file:///a.png", "messages[0].content[0]"),
        (MediaKind.VIDEO, "file-1", "messages[0].content[2]"),
        (MediaKind.AUDIO, "file-2", "messages[0].content[3]"),
        (MediaKind.AUDIO, "data:audio/wav;base64,UklGRg==", "messages[0].content[4]"),
        (MediaKind.VIDEO, "file-3", "messages[0].content[5]"),
    ]
    assert refs[0].max_pixels == 900
    assert (refs[1].fps, refs[1].num_frames) == (2, 8)


def test_low_detail_shows_the_model_a_thumbnail():
    body = of_parts({"type": "image_url", "image_url": {"url": "a", "detail": "low"}})
    [ref] = media_refs(parse_chat_request(orjson.dumps(body)))
    assert ref.max_pixels == 512 * 512


def test_templates_see_placeholders_where_media_stand():
    body = of_parts({"type": "image_url", "image_url": "a"}, {"type": "text", "text": "What is it?"})
    body["messages"].insert(0, {"role": "developer", "content": "Be brief."})
    assert template_messages(parse_chat_request(orjson.dumps(body))) == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    ]


def test_the_answers_of_tools_are_shown_with_their_names_and_calls_with_their_arguments():
    body = {
        "messages": [
            {"role": "user", "content": "What is a cat?"},
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "An animal."},
        ]
    }
    request = parse_chat_request(orjson.dumps(body))
    function = {"name": "look_up", "arguments": {"word": "cat"}}
    assert template_messages(request)[1:] == [
        {
            "role": "assistant",
            "content": [],
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {
            "role": "tool",
            "content": [{"type": "text", "text": "An animal."}],
            "tool_call_id": "call_1",
            "name": "look_up",
        },
    ]
    assert ignored_fields(request) == []


def test_tools_that_may_not_be_called_leave_the_form_of_the_answer_free():
    request = parsed(tools=[TOOL], tool_choice="none", response_format={"type": "json_object"})
    assert request.usable_tools == []
    assert request.grammar_spec is not None


def test_every_answer_of_a_request_draws_by_a_seed_of_its_own_and_the_first_by_the_requests():
    seeds = {seed: [seed_of(choice, seed) for choice in range(MAX_CHOICES)] for seed in range(200)}
    assert all(drawn[0] == seed for seed, drawn in seeds.items())
    assert len({seed for drawn in seeds.values() for seed in drawn}) == 200 * MAX_CHOICES


def test_unknown_fields_are_named_wherever_they_stand():
    body = of_parts({"type": "text", "text": "Hello", "weight": 3}) | {"priority": 1, "tools": []}
    assert ignored_fields(parse_chat_request(orjson.dumps(body))) == [
        "priority",
        "messages[0].content[0].weight",
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "12"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"seed": 1 << 63}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ["a" * 201]}, "stop[0]"),
        ({"stop": [""]}, "stop[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"model": ""}, "model"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"logit_bias": {"one": 5}}, "logit_bias"),
        ({"logit_bias": {"-1": 5}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(301)}}, "logit_bias"),
        ({"logprobs": 3}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [1] * 65}, "stop_token_ids"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "json_object", "value": "{"}}, "response_format.value"),
        ({"grammar": {"type": "regex", "value": ""}}, "grammar.value"),
        ({"grammar": {"type": "poem", "value": "x"}}, "grammar.type"),
        ({"grammar": REGEX, "response_format": {"type": "json_object"}}, "grammar"),
        ({"tools": [TOOL], "grammar": REGEX}, "grammar"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": NAMED | {"function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": NAMED | {"type": "custom"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "a b"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": 3}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"chat_template": "{{ x }}"}, "chat_template"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CALL | {"function": {"name": "a"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages"),
        (of_parts({"type": "zip"}), "messages[0].content[0]"),
        (of_parts({"type": "image_url"}), "messages[0].content[0].image_url"),
        (of_parts({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url.url"),
        (of_parts({"type": "file", "file": {"file_data": "AAAA"}}), "messages[0].content[0].file"),
        (of_parts({"type": "file", "file": {}}), "messages[0].content[0].file"),
        (
            of_parts({"type": "video_url", "video_url": {"url": "a", "fps": 0}}),
            "messages[0].content[0].video_url.fps",
        ),
        (of_parts(*[{"type": "image_url", "image_url": "a"}] * 257), "messages"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_with_its_field_and_no_library_text(fields, param):
    error = refusal(HELLO | fields)
    assert (error.status, error.param) == (400, param)
    assert "pydantic" not in error.message
    assert "Input should" not in error.message


@pytest.mark.parametrize(
    "neutral",
    [
        {"n": 1},
        {"functions": []},
        {"tools": []},
        {"tool_choice": "none"},
        {"logprobs": False},
        {"response_format": {"type": "text"}},
        {"presence_penalty": 0.0},
        {"logit_bias": {}},
        {"temperature": None},
    ],
    ids=str,
)
def test_a_value_that_asks_for_nothing_is_accepted_in_silence(neutral):
    assert ignored_fields(parsed(**neutral)) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b'{"messages": NaN}',
        b'{"messages": "\\ud800"}',
        b'{"model": "a", "model": "b"}',
        b'{"messages": [{"role": "user", "role": "user", "content": "x"}]}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_json_that_two_readers_could_read_differently_is_refused(raw):
    assert refusal(raw).code == "invalid_json"
