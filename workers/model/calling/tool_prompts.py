"""How a prompt speaks of tools: as the model's template does, or in plain text to a model that knows none."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase

from service.errors import BadRequest
from workers.model.calling.json_calls import CLOSE, OPEN, HermesFormat, MistralFormat
from workers.model.calling.tool_formats import native_format
from workers.model.calling.tools import ToolFormat

Message: TypeAlias = dict[str, Any]
Render: TypeAlias = Callable[[Sequence[Message], Sequence[dict[str, Any]] | None], str]

_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_of_a_tool",
        "description": "A probe.",
        "parameters": {
            "type": "object",
            "properties": {"probe_key": {"type": "string", "description": "A probe."}},
            "required": ["probe_key"],
        },
    },
}
_PROBE_CALL = {
    "id": "probe0001",
    "type": "function",
    "function": {"name": "probe_of_a_tool", "arguments": {"probe_key": "probe of arguments"}},
}
_PROBE_TALK: tuple[Message, ...] = (
    {"role": "user", "content": "probe of a question"},
    {"role": "assistant", "content": "", "tool_calls": [_PROBE_CALL]},
    {"role": "tool", "tool_call_id": "probe0001", "name": "probe_of_a_tool", "content": "probe of a result"},
)
_RESULT, _RESULT_END = "<tool_response>", "</tool_response>"
_INTRODUCTION = "You can call these functions:"
_HOW_TO_CALL = f"""
To call one, write a block like this, with the function's name and its arguments as JSON:
{OPEN}
{{"name": "…", "arguments": {{…}}}}
{CLOSE}
What it returns is shown to you between {_RESULT} and {_RESULT_END}. Call only what you need."""


class ToolPrompt:
    """What one model's template makes of tools. render: the template, for probes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, render: Render) -> None:
        native = native_format(tokenizer, template) if _knows_tools(render) else None
        self.format: ToolFormat = native or HermesFormat(is_described=True)
        self._takes_system = native is not None or _takes_system(render)
        # Gemma 4's first templates know results as a part of the message that called.
        self._joins_results = "tool_responses" in template and "tool_call_id" not in template

    def shape(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None
    ) -> tuple[list[Message], list[dict[str, Any]] | None]:
        """Messages and tools as the template takes them, from what `template_tools` and `template_calls` make."""
        if not tools and not any(
            message["role"] == "tool" or message.get("tool_calls") for message in messages
        ):
            return list(messages), None
        named = _with_names([_plain(message) for message in messages])
        if not self.format.is_described:
            if isinstance(self.format, MistralFormat):
                named = [_with_short_ids(message) for message in named]
            if self._joins_results:
                named = _with_results_joined(named)
            return named, list(tools) if tools else None
        told = _results_as_users([_call_as_text(message) for message in named])
        return (_described(told, tools, takes_system=self._takes_system) if tools else told), None


def _knows_tools(render: Render) -> bool:
    """Whether a template shows tools, calls and results."""
    try:
        prompt = render(_PROBE_TALK, [_PROBE_TOOL])
    except (BadRequest, TypeError, ValueError, KeyError, AttributeError):
        return False
    return all(word in prompt for word in ("probe_key", "probe of arguments", "probe of a result"))


def _takes_system(render: Render) -> bool:
    talk = [{"role": "system", "content": "probe of a rule"}, _PROBE_TALK[0]]
    try:
        return "probe of a rule" in render(talk, None)
    except (BadRequest, TypeError, ValueError, KeyError, AttributeError):
        return False


def _plain(message: Message) -> Message:
    """A message as templates of tools like it: a single text as it is, and no empty list of calls."""
    content = message.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in content) and len(content) < 2:
        message = {**message, "content": text_of(message)}
    return {key: value for key, value in message.items() if key != "tool_calls" or value}


def _with_results_joined(messages: Sequence[Message]) -> list[Message]:
    """Results as `tool_responses` of the message before them."""
    joined: list[Message] = []
    for message in messages:
        if message["role"] == "tool" and joined and joined[-1]["role"] == "assistant":
            response = {"name": message.get("name", "unknown"), "response": message["content"]}
            responses = [*joined[-1].get("tool_responses", []), response]
            joined[-1] = {**joined[-1], "tool_responses": responses}
        else:
            joined.append(message)
    return joined


def _with_names(messages: Sequence[Message]) -> list[Message]:
    """Results with the name of their function and text alone, as all templates understand them."""
    names: dict[str, str] = {}
    shaped = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool":
            name = names.get(str(message.get("tool_call_id")))
            message = {**message, **({"name": name} if name else {}), "content": text_of(message)}
        elif message.get("tool_calls"):
            message = {**message, "content": text_of(message)}
        shaped.append(message)
    return shaped


def text_of(message: Message) -> str:
    """A message's text parts, a line each."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if part.get("type") == "text")


def _with_short_ids(message: Message) -> Message:
    """Mistral's templates insist on ids of nine letters or digits."""
    shortened = dict(message)
    if message.get("tool_calls"):
        shortened["tool_calls"] = [{**call, "id": _short_id(call["id"])} for call in message["tool_calls"]]
    if message.get("tool_call_id"):
        shortened["tool_call_id"] = _short_id(message["tool_call_id"])
    return shortened


def _short_id(call_id: str) -> str:
    fits = re.fullmatch(r"[a-zA-Z0-9]{9}", call_id)
    return call_id if fits else hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _call_as_text(message: Message) -> Message:
    """An assistant's calls in the words that we teach."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    blocks = [f"{OPEN}\n{json.dumps(call['function'], ensure_ascii=False)}\n{CLOSE}" for call in calls]
    content = "\n".join(filter(None, [text_of(message), *blocks]))
    return {**{key: value for key, value in message.items() if key != "tool_calls"}, "content": content}


def _results_as_users(messages: Sequence[Message]) -> list[Message]:
    """What functions returned, as the user's words: results that follow each other are one turn."""
    told: list[Message] = []
    in_results = False
    for message in messages:
        if message["role"] != "tool":
            told.append(message)
        else:
            text = f"{_RESULT}\n{message['content']}\n{_RESULT_END}"
            if in_results:
                text = told.pop()["content"] + "\n" + text
            told.append({"role": "user", "content": text})
        in_results = message["role"] == "tool"
    return told


def _described(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]], *, takes_system: bool
) -> list[Message]:
    """The functions described in the system message, or before the first words where there can be none."""
    functions = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    text = "\n".join([_INTRODUCTION, *functions, _HOW_TO_CALL])
    first, *others = messages
    if first["role"] in ("system", "developer"):
        return [_with_text(first, text, before=False), *others]
    if takes_system:
        return [{"role": "system", "content": text}, *messages]
    return [_with_text(first, text, before=True), *others]


def _with_text(message: Message, text: str, *, before: bool) -> Message:
    content = message.get("content") or ""
    if isinstance(content, str):
        joined = (text, content) if before else (content, text)
        return {**message, "content": "\n\n".join(filter(None, joined))}
    part = {"type": "text", "text": text + "\n\n" if before else "\n\n" + text}
    return {**message, "content": [part, *content] if before else [*content, part]}
