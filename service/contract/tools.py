"""Tools: the functions that a model may call, the choice among them, and calls in the conversation's past."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import orjson
from pydantic import AfterValidator, Field

from service.contract.chat_parts import Wire
from service.contract.grammars import MAX_SOURCE_BYTES, check_depth
from service.contract.plain_errors import Refused

MAX_TOOLS = 128
MAX_CALLS = 128
MAX_TOOLS_BYTES = 256 * 1024
NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"


def _within_limits(parameters: dict[str, Any]) -> dict[str, Any]:
    check_depth(parameters, "parameters")
    if len(orjson.dumps(parameters)) > MAX_SOURCE_BYTES:
        raise Refused(f"`parameters` is larger than {MAX_SOURCE_BYTES // 1024} kB.")
    if parameters and parameters.get("type", "object") != "object":
        raise Refused("`parameters` must be the JSON schema of an object.")
    return parameters


def _as_json_object(text: str) -> str:
    """A chat template shows the arguments of a past call as an object, so they must be one."""
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        raise Refused("`arguments` is not valid JSON.") from None
    if not isinstance(arguments, dict):
        raise Refused("`arguments` must be the JSON text of an object.")
    check_depth(arguments, "arguments")
    return text


FunctionName = Annotated[str, Field(pattern=NAME_PATTERN)]
Parameters = Annotated[dict[str, Any], AfterValidator(_within_limits)]
CallId = Annotated[str, Field(min_length=1, max_length=256)]


class Function(Wire):
    """What the model may call. parameters: the JSON schema of its arguments; strict: they must follow it."""

    name: FunctionName
    description: str | None = Field(default=None, max_length=32 * 1024)
    parameters: Parameters | None = None
    strict: bool | None = None


class Tool(Wire):
    """One tool; all of them are functions."""

    type: Literal["function"]
    function: Function


class NamedFunction(Wire):
    """The function that must be called."""

    name: FunctionName


class NamedTool(Wire):
    """A choice of one function."""

    type: Literal["function"]
    function: NamedFunction


class CalledFunction(Wire):
    """A function and the JSON text of its arguments."""

    name: FunctionName
    arguments: Annotated[str, AfterValidator(_as_json_object), Field(max_length=1 << 20)]


class ToolCall(Wire):
    """A call in an assistant's message of the past."""

    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction


def _together(tools: list[Tool]) -> list[Tool]:
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(f"Two tools have the name '{twice}'.")
    if sum(len(orjson.dumps(tool.model_dump())) for tool in tools) > MAX_TOOLS_BYTES:
        raise Refused(f"The tools are larger than {MAX_TOOLS_BYTES // 1024} kB together.")
    return tools


Tools: TypeAlias = Annotated[list[Tool], Field(max_length=MAX_TOOLS), AfterValidator(_together)]
ToolCalls: TypeAlias = Annotated[list[ToolCall], Field(max_length=MAX_CALLS)]
ToolChoice: TypeAlias = Literal["none", "auto", "required"] | NamedTool


def check_choice(tools: Sequence[Tool], choice: ToolChoice | None) -> None:
    """Raises Refused for a choice that these tools do not offer."""
    if isinstance(choice, NamedTool) and choice.function.name not in {tool.function.name for tool in tools}:
        raise Refused(f"`tool_choice` names '{choice.function.name}', which is no tool.", param="tool_choice")
    if choice == "required" and not tools:
        raise Refused("`tool_choice` is 'required', but there are no tools.", param="tool_choice")


def template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as chat templates expect them, which do not all bear an absent description or schema."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.function.name,
                "description": tool.function.description or "",
                "parameters": {"type": "object", "properties": {}} | (tool.function.parameters or {}),
            },
        }
        for tool in tools
    ]


def template_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Past calls as chat templates expect them: arguments as an object."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {
                "name": call.function.name,
                "arguments": orjson.loads(call.function.arguments or "{}"),
            },
        }
        for call in calls
    ]
