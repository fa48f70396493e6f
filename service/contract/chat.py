"""The chat request: what a client may ask, within bounds, and what the desk reads out of it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from service.contract.chat_parts import MAX_PARTS, MediaPart, Part, TextPart, Wire
from service.contract.media import MediaKind, MediaRef
from service.contract.plain_errors import Refused, bad_request
from service.contract.strict_json import parse_object

MAX_MESSAGES = 1024
MAX_MEDIA = 256
MAX_ANSWER_TOKENS = 1 << 20
MAX_IGNORED_NAMES = 20
INT64 = (-(1 << 63), (1 << 63) - 1)

# Fields that would change the answer and that we cannot obey yet, with the values that ask for nothing.
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "grammar": (),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
}


def _as_parts(value: Any) -> Any:
    """Content may be a plain string, and null where a message says nothing."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is not None and not isinstance(value, list):
        raise Refused("`content` must be a string or a list of parts.")
    return value or []


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    return [] if value is None else value


Content = Annotated[
    list[Part],
    BeforeValidator(_as_parts, json_schema_input_type=str | list[Part] | None),
    Field(max_length=MAX_PARTS),
]
StopString = Annotated[str, Field(min_length=1, max_length=200)]


class Message(Wire):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_tools(cls, message: Any) -> Any:
        if isinstance(message, dict) and (
            message.get("role") in ("tool", "function") or message.get("tool_calls")
        ):
            raise Refused("Tool calls are not supported yet.", code="unsupported_parameter")
        return message


class StreamOptions(Wire):
    """How a streamed answer is told."""

    include_usage: bool = False


class ChatRequest(Wire):
    """POST /v1/chat/completions.

    An absent temperature means greedy: captions of the same picture should be the same text.
    """

    model: str = Field(default="default", min_length=1, max_length=512)
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_ANSWER_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_ANSWER_TOKENS)
    min_tokens: int | None = Field(default=None, ge=0, le=MAX_ANSWER_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=0, le=1 << 20)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=INT64[0], le=INT64[1])
    stop: Annotated[
        list[StopString],
        BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None),
        Field(max_length=4),
    ] = Field(default_factory=list)
    ignore_eos: bool | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None

    @field_validator("n")
    @classmethod
    def _one_answer(cls, n: int | None) -> int | None:
        if n not in (None, 1):
            raise Refused("`n` must be 1: one request gives one answer.", code="unsupported_parameter")
        return n

    @model_validator(mode="after")
    def _obeyed_in_full(self) -> "ChatRequest":
        for name, value in (self.model_extra or {}).items():
            if name in NEUTRAL_VALUES and value is not None and value not in NEUTRAL_VALUES[name]:
                raise _unsupported(name)
        if not any(message.content for message in self.messages):
            raise Refused("`messages` has no content at all.", param="messages")
        if sum(1 for _ in _media_parts(self)) > MAX_MEDIA:
            raise Refused(
                f"`messages` has more than {MAX_MEDIA} images, videos and sounds.", param="messages"
            )
        return self

    @property
    def max_answer_tokens(self) -> int | None:
        """The most tokens of the answer, where the request says."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def sampling_temperature(self) -> float:
        """0 is greedy, and the default."""
        return 0.0 if self.temperature is None else self.temperature

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


def _unsupported(name: str) -> Refused:
    sentence = f"`{name}` is not supported yet. Leave it out."
    return Refused(sentence, param=name, code="unsupported_parameter")


def parse_chat_request(raw: bytes) -> ChatRequest:
    """Read a request body from JSON bytes; BadRequest names the field and the reason."""
    return read_chat_request(parse_object(raw))


def read_chat_request(body: dict[str, Any]) -> ChatRequest:
    """The same for a body that was parsed already."""
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        raise bad_request(error) from None


def media_refs(request: ChatRequest) -> list[MediaRef]:
    """The media of a request in the order of the conversation."""
    return [part.media(param) for param, part in _media_parts(request)]


def _media_parts(request: ChatRequest) -> Iterator[tuple[str, MediaPart]]:
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.content):
            if not isinstance(part, TextPart):
                yield f"messages[{i}].content[{j}]", part


def template_messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The conversation for a chat template: content is always a list of text and {"type": "image"} placeholders."""
    return [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": [_template_part(part) for part in message.content],
        }
        for message in request.messages
    ]


def _template_part(part: TextPart | MediaPart) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind: MediaKind = part.media("").kind
    return {"type": kind.value}


def ignored_fields(request: ChatRequest) -> list[str]:
    """Paths of fields that we do not know and did not obey, at most MAX_IGNORED_NAMES of them."""
    names = [name for name in _extras(request, "") if name not in NEUTRAL_VALUES]
    return names[:MAX_IGNORED_NAMES]


def _extras(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, list):
        for i, child in enumerate(node):
            yield from _extras(child, f"{path}[{i}]")
    elif isinstance(node, BaseModel):
        for name in node.model_extra or {}:
            yield f"{path}.{name}" if path else name
        for name in type(node).model_fields:
            yield from _extras(getattr(node, name), f"{path}.{name}" if path else name)
