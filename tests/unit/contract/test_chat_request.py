"""The chat request: what we obey, what we name as ignored, and what we refuse with its field."""

import base64
import re
from typing import Any

import orjson
import pytest

from service.contract.chat import ChatRequest
from service.contract.media import MediaKind
from service.contract.messages import for_template, with_file_kinds
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
        {"type": "audio_url", "audio_url": {"url": "file-2", "start": 1.5, "end": 3}},
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
    assert (refs[1].fps, refs[1].num_frames, refs[1].start) == (2, 8, None)
    assert (refs[2].start, refs[2].end) == (1.5, 3)


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()


@pytest.mark.parametrize(
    ("file", "kind", "url"),
    [
        ({"file_data": f"data:image/png;base64,{PNG}"}, "image", f"data:image/png;base64,{PNG}"),
        ({"file_data": PNG}, "image", f"data:image/any;base64,{PNG}"),
        ({"file_data": "AAAA", "filename": "a.wav"}, "audio", "data:audio/any;base64,AAAA"),
        ({"file_data": "AAAA", "kind": "video"}, "video", "data:video/any;base64,AAAA"),
        (
            {"file_data": f"data:application/octet-stream;base64,{PNG}"},
            "image",
            f"data:image/any;base64,{PNG}",
        ),
        ({"file_id": "file-1", "kind": "audio"}, "audio", "file-1"),
        ({"file_id": "file-1", "filename": "a.mp4", "kind": "image"}, "image", "file-1"),
    ],
    ids=str,
)
def test_what_a_file_is_says_the_request_its_type_its_name_or_its_bytes(file, kind, url):
    [ref] = media_refs(parse_chat_request(orjson.dumps(of_parts({"type": "file", "file": file}))))
    assert (ref.kind, ref.url) == (kind, url)


def test_an_upload_of_which_only_its_bytes_say_the_kind_is_asked_for_once_at_its_place():
    body = of_parts(
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_id": "file-2", "filename": "a.wav"}},
    )
    request = parse_chat_request(orjson.dumps(body))
    asked = []

    def kind_of(file_id: str, param: str) -> MediaKind:
        asked.append((file_id, param))
        return MediaKind.VIDEO

    messages = with_file_kinds(request.messages, kind_of)

    assert asked == [("file-1", "messages[0].content[0].file")]
    assert for_template(messages)[0]["content"] == [{"type": "video"}, {"type": "audio"}]


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


# What the official client may send besides what we obey.
HARMLESS = {
    "moderation": {"mode": "auto"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "a",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "safety_identifier": "b",
    "service_tier": "flex",
    "store": True,
    "verbosity": "low",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_the_official_client_may_send_is_ignored_by_name(name):
    assert ignored_fields(parsed(**{name: HARMLESS[name]})) == [name]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"functions": [{"name": "look_up"}]}, "tools"),
        ({"function_call": {"name": "look_up"}}, "tool_choice"),
        ({"modalities": ["text", "audio"]}, "Leave it out"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "Leave it out"),
        ({"web_search_options": {}}, "Leave it out"),
    ],
    ids=str,
)
def test_what_would_change_the_answer_is_refused_with_what_to_do(fields, words):
    error = refusal(HELLO | fields)
    assert (error.code, error.param) == ("unsupported_parameter", next(iter(fields)))
    assert words in error.message


NOT_NULL = {"model", "messages"}
ANYTHING = [{"x": 1}, ["x"], "some text", -7, 1e9, 0.5, True, [[1]], [None], "", {"type": 5}]


@pytest.mark.parametrize("name", ChatRequest.model_fields)
def test_every_field_takes_null_or_says_that_it_does_not(name):
    if name not in NOT_NULL:
        assert ignored_fields(parsed(**{name: None})) == []
        return
    assert refusal(HELLO | {name: None}).param == name


@pytest.mark.parametrize("name", ChatRequest.model_fields)
def test_every_field_refuses_what_it_cannot_be_in_our_own_words(name):
    refusals = []
    for value in ANYTHING:
        try:
            parsed(**{name: value})
        except BadRequest as error:
            refusals.append(error)
    assert len(refusals) >= len(ANYTHING) // 2
    for error in refusals:
        assert error.status == 400
        assert (error.param or "").startswith(name)
        assert not re.search("pydantic|Input should|Value error|validation", error.message)


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
        (
            of_parts({"type": "video_url", "video_url": {"url": "a", "start": 2, "end": 2}}),
            "messages[0].content[0].video_url.end",
        ),
        (
            of_parts({"type": "video_url", "video_url": {"url": "a", "end": 0}}),
            "messages[0].content[0].video_url.end",
        ),
        (
            of_parts({"type": "audio_url", "audio_url": {"url": "a", "start": -1}}),
            "messages[0].content[0].audio_url.start",
        ),
        (of_parts("plain words"), "messages[0].content[0]"),
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
        {"service_tier": "auto"},
        {"store": False},
        {"modalities": ["text"]},
        {"stream_options": {"include_usage": None}},
        {"max_tokens": None, "stop": None, "tools": None, "metadata": None, "stream": None},
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
