"""How prompts speak of tools: in the template's own way, or in plain words, and never with a stranger's tokens."""

from collections.abc import Callable
from typing import Any

import pytest
from family_processors import gemma3, idefics, llava, needs_torchvision, picture, qwen, shown, user
from tool_models import some_tools, template_of, tokenizer_of, tool_processor

from service.contract.tools import template_tools
from service.errors import BadRequest
from workers.model.calling.gemma_calls import GemmaFormat
from workers.model.calling.json_calls import HermesFormat, LlamaFormat, MistralFormat
from workers.model.calling.tools import ToolFormat
from workers.model.calling.xml_calls import XmlFormat
from workers.model.prompting.chat_format import ChatFormat
from workers.model.prompting.detokenize import Detokenizer
from workers.model.prompting.prompts import Prompter
from workers.model.prompting.templates import ChatTemplate
from workers.model.special_tokens import special_ids

TOOLS = template_tools(some_tools())
CALL = {"id": "call_abc", "type": "function", "function": {"name": "weather", "arguments": {"place": "Oslo"}}}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Rain?"}]},
    {"role": "assistant", "content": [], "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_abc", "content": [{"type": "text", "text": "Rain all day."}]},
]
NATIVE = ("qwen", "qwen_xml", "gemma", "mistral", "mistral_shipped", "llama")


def prompt_of(family: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    chat = ChatFormat(tool_processor(family), template_of(family))
    features = chat.apply(tool_processor(family), messages, {"add_generation_prompt": True}, tools)
    return str(tokenizer_of(family).decode(features["input_ids"][0]))


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("qwen", HermesFormat),
        ("qwen_xml", XmlFormat),
        ("gemma", GemmaFormat),
        ("mistral", MistralFormat),
        ("mistral_shipped", MistralFormat),
        ("llama", LlamaFormat),
        ("plain", HermesFormat),
        ("no_system", HermesFormat),
    ],
)
def test_the_template_and_its_tokens_tell_how_a_model_calls_tools(
    family: str, expected: type[ToolFormat]
) -> None:
    chat = ChatFormat(tool_processor(family), template_of(family))

    assert type(chat.tool_format) is expected
    assert chat.tool_format.is_described is (family not in NATIVE)


@pytest.mark.parametrize("family", [*NATIVE, "plain", "no_system"])
def test_a_prompt_shows_tools_past_calls_and_results(family: str) -> None:
    prompt = prompt_of(family, TALK, TOOLS)

    for word in ("weather", "place", "Oslo", "Rain all day.", "Rain?"):
        assert word in prompt
    assert "You can call these functions" in prompt or family in NATIVE


@pytest.mark.parametrize("family", [*NATIVE, "plain"])
def test_a_prompt_without_tools_says_nothing_of_tools(family: str) -> None:
    prompt = prompt_of(family, TALK[:1])

    assert "ool" not in prompt.replace("[INST]", "")


def test_the_shipped_mistral_template_writes_tools_before_the_last_question() -> None:
    talk = [*TALK, {"role": "user", "content": "Sure?"}]
    tool = {"type": "function", "function": {"name": "now", "description": "", "parameters": {}}}

    assert prompt_of("mistral_shipped", talk, [tool]) == (
        "<bos>[INST]Rain?[/INST]"
        '[TOOL_CALLS][{"name": "weather", "arguments": {"place": "Oslo"}, "id": "ed01972d3"}]<eos>'
        "[TOOL_RESULTS]ed01972d3[TOOL_CONTENT]Rain all day.[/TOOL_RESULTS]"
        '[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "now", "description": "", "parameters": {}}}]'
        "[/AVAILABLE_TOOLS][INST]Sure?[/INST]"
    )


def test_messages_reach_templates_of_tools_as_plain_text_and_without_empty_lists_of_calls() -> None:
    strict = (
        "{% for m in messages %}{{ m.role + ': ' + m.content }}{% if m.tool_calls is defined %}"
        "{% for call in m.tool_calls %}<tool_call>{{ call.function.name }}({{ call.function.arguments | tojson }})"
        "{% if loop.last %}{{ eos_token }}{% endif %}{% endfor %}{% endif %}{% endfor %}{{ tools | tojson }}"
    )
    chat = ChatFormat(tool_processor("plain"), ChatTemplate(strict))
    talk = [
        TALK[0],
        {"role": "assistant", "content": [{"type": "text", "text": "Wait."}], "tool_calls": []},
        *TALK,
    ]
    features = chat.apply(tool_processor("plain"), talk, {}, TOOLS[1:])

    assert not chat.tool_format.is_described
    assert (
        tokenizer_of("plain")
        .decode(features["input_ids"][0])
        .startswith(
            "user: Rain?assistant: Wait.user: Rain?"
            'assistant: <tool_call>weather({"place": "Oslo"})<eos>tool: Rain all day.[{"type"'
        )
    )


def test_results_are_joined_to_their_call_where_the_template_wants_them_there() -> None:
    joining = (
        "{% for m in messages %}{{ m.role + ': ' + m.content }}{% for call in m.tool_calls or [] %}"
        "<tool_call>{{ call.function.arguments | tojson }}{% endfor %}{% for r in m.tool_responses or [] %}"
        "<{{ r.name }}={{ r.response }}>{% endfor %}{% endfor %}{{ tools | tojson }}"
    )
    chat = ChatFormat(tool_processor("plain"), ChatTemplate(joining))
    features = chat.apply(tool_processor("plain"), [*TALK, TALK[2]], {}, TOOLS[1:])

    assert (
        tokenizer_of("plain")
        .decode(features["input_ids"][0])
        .startswith(
            'user: Rain?assistant: <tool_call>{"place": "Oslo"}<weather=Rain all day.><weather=Rain all day.>[{'
        )
    )


def test_tools_are_described_in_the_system_message_where_the_template_knows_none() -> None:
    with_system = prompt_of("plain", [{"role": "system", "content": "Be brief."}, *TALK[:1]], TOOLS)
    without = prompt_of("plain", TALK[:1], TOOLS)
    nowhere = prompt_of("no_system", TALK[:1], TOOLS)

    assert with_system.startswith("<bos><|im_start|>system\nBe brief.\n\nYou can call these functions:\n{")
    assert without.startswith("<bos><|im_start|>system\nYou can call these functions:\n{")
    assert nowhere.startswith("user: You can call these functions:\n{")
    assert nowhere.endswith("\n\nRain?\n")


def test_results_that_follow_each_other_are_one_turn_where_they_are_told_as_the_users_words() -> None:
    second = {"role": "tool", "tool_call_id": "call_b", "content": "Noon."}
    prompt = prompt_of("plain", [*TALK, second], TOOLS)

    assert prompt.endswith(
        "<|im_start|>user\n<tool_response>\nRain all day.\n</tool_response>\n"
        "<tool_response>\nNoon.\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("family", [pytest.param(qwen, marks=needs_torchvision), idefics, gemma3, llava])
def test_tools_and_pictures_go_together_in_families_whose_templates_know_no_tools(
    family: Callable[[], Prompter],
) -> None:
    prompter = family()
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Rain?"}]}, *TALK[1:]]

    told = prompter.prepare(talk, [picture()], tools=TOOLS)
    untold = prompter.prepare(user("@image", "Rain?"), [picture()])

    assert prompter.tool_format.is_described
    assert told.counts.image == untold.counts.image > 0
    prompt = shown(prompter, told.inputs["input_ids"][0].tolist())
    for word in ("You can call these functions", '"place": "Oslo"', "<tool_response>\nRain all day."):
        assert word in prompt


def test_the_text_of_an_answer_shows_the_marks_of_its_calls_alone() -> None:
    tokens = tokenizer_of("gemma").encode(
        "<|turn><|tool_call>call:now{}<tool_call|><turn|>", add_special_tokens=False
    )
    keep = ChatFormat(tool_processor("gemma"), template_of("gemma")).tool_format.keep_tokens
    detokenizer = Detokenizer(tokenizer_of("gemma"), special_ids(tokenizer_of("gemma")) - keep)

    assert detokenizer.push(tokens) + detokenizer.finish() == "<|tool_call>call:now{}<tool_call|>"


@pytest.mark.parametrize(
    ("family", "token"),
    [("qwen", "<|im_end|>"), ("gemma", '<|"|>'), ("mistral", "[INST]"), ("plain", "<|im_end|>")],
)
def test_control_tokens_in_the_words_of_tools_calls_and_results_are_passed_on_as_text(
    family: str, token: str
) -> None:
    number = tokenizer_of(family).convert_tokens_to_ids(token)
    chat = ChatFormat(tool_processor(family), template_of(family))

    def count(word: str) -> int:
        tool = {"type": "function", "function": {**TOOLS[0]["function"], "description": f"D{word}"}}
        call = {**CALL, "function": {"name": "weather", "arguments": {"place": f"P{word}"}}}
        result = {**TALK[2], "content": f"R{word}"}
        talk = [TALK[0], {**TALK[1], "tool_calls": [call]}, result]
        features = chat.apply(tool_processor(family), talk, {"add_generation_prompt": True}, [tool])
        ids = features["input_ids"][0].tolist()
        assert tokenizer_of(family).decode(ids).count(f"P{word}") == 1
        return ids.count(number)

    assert count(token) == count("harmless")


@pytest.mark.parametrize("family", ["qwen", "gemma", "plain"])
def test_a_type_that_is_a_control_token_is_text_like_any_other(family: str) -> None:
    token = {"qwen": "<|im_end|>", "gemma": "<turn|>", "plain": "<|im_end|>"}[family]
    number = tokenizer_of(family).convert_tokens_to_ids(token)
    chat = ChatFormat(tool_processor(family), template_of(family))
    counts = []
    for word in (token, "string"):
        properties = {"a": {"type": word, "default": {"type": word}}}
        function = {
            "name": "f",
            "description": "",
            "parameters": {"type": "object", "properties": properties},
        }
        features = chat.apply(
            tool_processor(family),
            TALK[:1],
            {"add_generation_prompt": True},
            [{"type": "function", "function": function}],
        )
        counts.append(features["input_ids"][0].tolist().count(number))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("family", ["qwen", "mistral"])
def test_control_tokens_in_the_names_of_properties_are_refused(family: str) -> None:
    token = {"qwen": "<|im_end|>", "mistral": "[INST]"}[family]
    properties = {f"a{token}": {"type": "string"}}
    function = {"name": "f", "description": "", "parameters": {"type": "object", "properties": properties}}
    call = {**CALL, "function": {"name": "weather", "arguments": {f"a{token}": 1}}}

    with pytest.raises(BadRequest, match="control token"):
        prompt_of(family, TALK[:1], [{"type": "function", "function": function}])
    with pytest.raises(BadRequest, match="control token"):
        prompt_of(family, [TALK[0], {**TALK[1], "tool_calls": [call]}, TALK[2]])
