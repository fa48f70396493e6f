"""The messages of a conversation, as requests write them and as chat templates read them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from service.contract.chat_parts import MAX_PARTS, FilePart, MediaPart, Part, TextPart, Wire
from service.contract.media import MediaKind
from service.contract.plain_errors import Refused
from service.contract.tools import CallId, ToolCalls, template_calls


def _as_parts(value: Any) -> Any:
    """Content may be a plain string, and null where a message says nothing."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is not None and not isinstance(value, list):
        raise Refused("`content` must be a string or a list of parts.")
    return value or []


Content = Annotated[
    list[Part],
    BeforeValidator(_as_parts, json_schema_input_type=str | list[Part] | None),
    Field(max_length=MAX_PARTS),
]


class Message(Wire):
    """One turn of the conversation.

    tool_calls: what an assistant asked for. tool_call_id: which of these calls a message of role `tool` answers.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = Field(default_factory=list)
    name: str | None = None
    tool_calls: ToolCalls | None = None
    tool_call_id: CallId | None = None

    @model_validator(mode="after")
    def _has_what_its_role_needs(self) -> "Message":
        if self.tool_calls and self.role != "assistant":
            raise Refused("Only a message of role `assistant` has `tool_calls`.")
        if self.role == "tool" and self.tool_call_id is None:
            raise Refused("A message of role `tool` needs the `tool_call_id` that it answers.")
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise Refused("A message needs `content`.", code="missing_required_parameter")
        return self


def media_parts(messages: Sequence[Message]) -> Iterator[tuple[str, MediaPart]]:
    """The media of a conversation in their order, with the place of each."""
    for i, message in enumerate(messages):
        for j, part in enumerate(message.content):
            if not isinstance(part, TextPart):
                yield f"messages[{i}].content[{j}]", part


def with_file_kinds(messages: Sequence[Message], kind_of: Callable[[str, str], MediaKind]) -> list[Message]:
    """The messages with a kind in every uploaded file's part. kind_of: (file_id, the part's place) -> its kind."""
    if not any(isinstance(part, FilePart) for message in messages for part in message.content):
        return list(messages)
    return [
        message.model_copy(
            update={
                "content": [
                    _with_file_kind(part, f"messages[{i}].content[{j}].file", kind_of)
                    for j, part in enumerate(message.content)
                ]
            }
        )
        for i, message in enumerate(messages)
    ]


def _with_file_kind(part: Any, param: str, kind_of: Callable[[str, str], MediaKind]) -> Any:
    if not isinstance(part, FilePart) or part.file.media_kind is not None:
        return part
    kind = kind_of(part.file.url, param)
    return part.model_copy(update={"file": part.file.model_copy(update={"kind": kind.value})})


def for_template(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation for a chat template.

    content is always a list of text and {"type": "image"} placeholders; a tool's answer bears the tool's name.
    """
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    return [_for_template(message, names) for message in messages]


def _for_template(message: Message, names: dict[str, str]) -> dict[str, Any]:
    turn: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": [_template_part(part) for part in message.content],
    }
    if message.tool_calls:
        turn["tool_calls"] = template_calls(message.tool_calls)
    if message.role == "tool" and message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
        turn["name"] = message.name or names.get(message.tool_call_id, "")
    return turn


def _template_part(part: TextPart | MediaPart) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind: MediaKind = part.media("").kind
    return {"type": kind.value}
