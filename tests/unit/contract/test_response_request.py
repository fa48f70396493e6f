"""The request of the Responses API: the chat that it comes to, and refusals in its own words."""

from typing import Any

import orjson
import pytest

from service.contract.chat import ignored_fields, media_refs, template_messages
from service.contract.endpoints import request_in
from service.contract.media import MediaKind
from service.contract.responses import KeptRequest, kept_request, read_kept_request
from service.errors import BadMedia, BadRequest, ContextTooLong

TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": True}
SCHEMA = {"type": "json_schema", "name": "cat", "schema": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": '{"word": "cat"}'}
IMAGE = {"type": "input_image", "image_url": "file:///a.png"}


def asked(**fields: Any) -> KeptRequest:
    return kept_request({"input": "Hello"} | fields)


def said(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def refusal(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        asked(**fields)
    return refused.value


def test_a_string_is_what_the_user_says_after_the_instructions():
    request = asked(instructions="Be brief.")
    assert template_messages(request.chat) == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]
    assert request.is_stored
    assert request.chat.sampling_temperature == 0.0


def test_media_keep_their_order_their_bounds_and_their_places():
    parts = [
        {"type": "input_image", "image_url": "file:///a.png", "detail": "low", "max_pixels": 900},
        {"type": "input_text", "text": "and"},
        {"type": "input_image", "file_id": "file-1", "detail": "original"},
        {"type": "input_video", "video_url": {"url": "file:///b.mp4", "fps": 2, "num_frames": 8}},
        {"type": "input_video", "video_url": "file:///c.mp4"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "input_audio", "audio_url": "file:///d.wav"},
        {"type": "input_file", "file_id": "file-2", "filename": "clip.MP4"},
        {"type": "input_file", "file_url": "https://example.org/e.flac?x=1"},
    ]
    request = asked(input=[said(*parts)])
    refs = media_refs(request.chat)
    kinds = [MediaKind.IMAGE] * 2 + [MediaKind.VIDEO] * 2 + [MediaKind.AUDIO] * 2
    assert [ref.kind for ref in refs] == [*kinds, MediaKind.VIDEO, MediaKind.AUDIO]
    assert (refs[0].max_pixels, refs[1].url, refs[2].fps, refs[2].num_frames) == (900, "file-1", 2, 8)
    errors = [request.in_own_words(BadMedia("Broken.", param=ref.param)) for ref in refs]
    assert [error.param for error in errors] == [
        "input[0].content[0].image_url",
        "input[0].content[2].file_id",
        "input[0].content[3].video_url",
        "input[0].content[4].video_url",
        "input[0].content[5].input_audio",
        "input[0].content[6].audio_url",
        "input[0].content[7].file_id",
        "input[0].content[8].file_url",
    ]


def test_calls_and_their_results_become_one_assistants_turn_and_the_tools_answers():
    items = [
        {"role": "user", "content": "What is a cat?"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
        },
        CALL,
        {**CALL, "call_id": "call_2"},
        {"type": "function_call_output", "call_id": "call_1", "output": "An animal."},
        {"type": "function_call_output", "call_id": "call_2", "output": [IMAGE]},
    ]
    request = asked(input=items, tools=[TOOL])
    turns = template_messages(request.chat)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["call_1", "call_2"]
    assert turns[1]["content"] == [{"type": "text", "text": "I look."}]
    assert (turns[2]["name"], turns[3]["content"]) == ("look_up", [{"type": "image"}])
    ref = media_refs(request.chat)[0]
    own = request.in_own_words(BadMedia("Broken.", param=ref.param))
    assert own.param == "input[6].output[0].image_url"
    assert ignored_fields(request) == []


def test_what_went_wrong_earlier_in_the_conversation_is_said_of_the_previous_response():
    request = asked(previous_response_id="resp_1", history=[said(IMAGE)], input=[said(IMAGE)])
    told = [request.in_own_words(BadMedia("Broken.", param=ref.param)) for ref in media_refs(request.chat)]
    assert [error.param for error in told] == ["previous_response_id", "input[0].content[0].image_url"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"text": {"format": SCHEMA}}, "json_schema"),
        ({"text": {"format": {"type": "json_object"}}}, "json_schema"),
        ({"grammar": {"type": "regex", "value": "[a-z]+"}}, "regex"),
    ],
)
def test_the_form_of_the_answer_is_obeyed(given: dict[str, Any], expected: str):
    spec = asked(**given).chat.grammar_spec
    assert spec is not None
    assert spec.kind == expected
    assert asked(text={"format": {"type": "text"}}).chat.grammar_spec is None


def test_tools_are_chosen_as_in_chat_and_among_those_allowed():
    other = {**TOOL, "name": "other"}
    named = asked(tools=[TOOL, other], tool_choice={"type": "function", "name": "look_up"}).chat
    assert named.tool_choice is not None
    assert not isinstance(named.tool_choice, str)
    assert named.tool_choice.function.name == "look_up"
    only = [{"type": "function", "name": "other"}]
    allowed = asked(
        tools=[TOOL, other], tool_choice={"type": "allowed_tools", "mode": "required", "tools": only}
    )
    assert [tool.function.name for tool in allowed.chat.usable_tools] == ["other"]
    assert allowed.chat.tool_choice == "required"


def test_probabilities_are_asked_for_by_include_or_by_their_number():
    assert asked(include=["message.output_text.logprobs"]).chat.num_logprobs == 0
    assert asked(top_logprobs=3).chat.num_logprobs == 3
    assert asked(include=["reasoning.encrypted_content"]).chat.num_logprobs is None


def test_drawing_is_told_in_chats_own_fields():
    drawn = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "top_k": 3, "stop": ["END"], "max_output_tokens": 5}
    chat = asked(**drawn).chat
    assert (chat.temperature, chat.top_p, chat.seed, chat.top_k, chat.stop) == (0.5, 0.9, 7, 3, ["END"])
    assert chat.max_answer_tokens == 5


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": [5]}, "input[0]", "invalid_value"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "invalid_value"),
        ({"input": [said({"type": "text", "text": "x"})]}, "input[0].content[0]", "invalid_value"),
        ({"input": [said({"type": "input_image"})]}, "input[0].content[0]", "invalid_value"),
        (
            {"input": [said({"type": "input_image", "image_url": 5})]},
            "input[0].content[0].image_url",
            "invalid_value",
        ),
        (
            {"input": [said({"type": "input_file", "file_url": "https://example.org/a.pdf"})]},
            "input[0].content[0]",
            "unknown_media_kind",
        ),
        ({"input": [{**CALL, "arguments": "{"}]}, "input[0].arguments", "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_parameter"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "invalid_value"),
        ({"tools": [TOOL, TOOL]}, "tools", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": {}, "mode": "auto"}}, "tool_choice", "invalid_value"),
        ({"text": {"format": {"type": {}}}}, "text.format.type", "invalid_value"),
        ({"tool_choice": {"type": "function", "name": "nobody"}}, "tool_choice", "invalid_value"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "invalid_value"),
        ({"text": {"format": {**SCHEMA, "schema": "{"}}}, "text.format.schema", "invalid_grammar"),
        ({"text": {"format": SCHEMA}, "tools": [TOOL]}, "text.format", "unsupported_parameter"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"metadata": {"a": 5}}, "metadata.a", "invalid_value"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "invalid_value"),
        ({"background": True, "store": False}, "background", "invalid_value"),
        ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
    ],
)
def test_what_is_wrong_is_said_in_the_requests_own_words(fields: dict[str, Any], param: str, code: str):
    error = refusal(**fields)
    assert (error.param, error.code, error.status) == (param, code, 400)
    assert "messages" not in error.message
    assert "response_format" not in error.message


def test_what_only_the_worker_can_know_is_said_in_the_requests_own_words_too():
    request = asked(max_output_tokens=9)
    error = request.in_own_words(ContextTooLong("Ask for fewer.", param="max_completion_tokens"))
    assert error.param == "max_output_tokens"
    error = request.in_own_words(BadRequest("`response_format` is wrong.", param="response_format"))
    assert (error.param, error.message, str(error)) == ("text.format", *["`text.format` is wrong."] * 2)
    assert request.in_own_words(BadRequest("Something.")).param is None


def test_unknown_fields_are_named_and_not_obeyed():
    request = asked(colour="red", reasoning={"effort": "low"}, text={"verbosity": "low"})
    assert set(ignored_fields(request)) == {"colour", "reasoning", "text.verbosity"}


def test_what_was_not_obeyed_is_told_beside_the_result_too():
    assert request_in("/v1/responses", b'{"input": "Hello", "colour": "red"}').ignored == ("colour",)


def test_two_readers_could_not_read_a_kept_request_differently():
    with pytest.raises(BadRequest, match="same key twice"):
        read_kept_request(b'{"input": "a", "input": "b"}')
    assert read_kept_request(orjson.dumps({"input": "a"})).chat.messages[0].content[0].text == "a"
