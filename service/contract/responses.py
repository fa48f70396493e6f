"""The request of OpenAI's Responses API: what a client may ask, and the chat that it comes to."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from service.contract.chat import ChatRequest, StreamOptions
from service.contract.chat_parts import Wire
from service.contract.plain_errors import Refused, bad_request
from service.contract.response_chat import ChatMessages, own_param
from service.contract.response_items import InputItem, InputItems
from service.contract.sampling import MAX_ANSWER_TOKENS, MAX_TOP_LOGPROBS, DrawingFields
from service.contract.strict_json import parse_object
from service.contract.tools import MAX_TOOLS, Function, FunctionName
from service.errors import SluiceError

LOGPROBS = "message.output_text.logprobs"
# Fields that would change the answer and that we cannot obey, with the values that ask for nothing.
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
    "moderation": (),
}

MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class FlatTool(Function):
    """A function that the model may call, without chat's wrapping."""

    type: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def _is_a_function(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise _unsupported(f"No tools of type {kind[:64]!r} are offered here, only functions.")
        return value


class FlatNamedTool(Wire):
    """A choice of one function."""

    type: Literal["function"]
    name: FunctionName


class AllowedTools(Wire):
    """A choice among some of the tools. mode: whether one of them must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FlatNamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


def _known_choice(value: Any) -> Any:
    if value in (None, "none", "auto", "required"):
        return value
    kinds: dict[str, type[Wire]] = {"function": FlatNamedTool, "allowed_tools": AllowedTools}
    if isinstance(value, dict) and (kind := kinds.get(str(value.get("type")))):
        try:
            return kind.model_validate(value)
        except ValidationError:
            pass
    raise Refused(
        "`tool_choice` must be 'none', 'auto', 'required', {\"type\": \"function\", \"name\": …} or "
        '{"type": "allowed_tools", "mode": …, "tools": […]}.'
    )


FlatToolChoice: TypeAlias = Annotated[
    Literal["none", "auto", "required"] | FlatNamedTool | AllowedTools, BeforeValidator(_known_choice)
]


class TextOptions(Wire):
    """The form of the answer's text. format: {"type": "text" | "json_object" | "json_schema", …}."""

    format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _is_a_form(self) -> "TextOptions":
        kind = (self.format or {}).get("type", "text")
        if kind not in ("text", "json_object", "json_schema"):
            raise Refused(
                "`text.format.type` must be one of 'text', 'json_object' or 'json_schema'.",
                param="text.format.type",
            )
        if kind == "json_schema" and not isinstance((self.format or {}).get("name"), str):
            raise Refused("`text.format.name` must be a string.", param="text.format.name")
        return self

    @property
    def response_format(self) -> dict[str, Any] | None:
        """The same as chat spells it."""
        wanted = self.format or {"type": "text"}
        if wanted.get("type") != "json_schema":
            return wanted
        rest = {name: value for name, value in wanted.items() if name != "type"}
        return {"type": "json_schema", "json_schema": rest}


class ResponseRequest(DrawingFields):
    """POST /v1/responses.

    background: run without a listener. store: whether it can be read again and continued.
    """

    model: str = Field(default="default", min_length=1, max_length=512)
    input: InputItems
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=MAX_ANSWER_TOKENS)
    tools: Annotated[list[FlatTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: FlatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    grammar: dict[str, Any] | None = None
    include: list[str] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    user: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    previous_response_id: str | None = Field(default=None, min_length=1, max_length=64)
    truncation: Literal["auto", "disabled"] | None = None

    @model_validator(mode="after")
    def _obeyed_in_full(self) -> "ResponseRequest":
        for name, value in (self.model_extra or {}).items():
            if name in NEUTRAL_VALUES and value is not None and value not in NEUTRAL_VALUES[name]:
                raise _unsupported(f"`{name}` is not supported. Leave it out.", name)
        if self.truncation == "auto":
            raise _unsupported(
                "`truncation` can only be 'disabled': nothing of a conversation is dropped here.",
                "truncation",
            )
        if self.background and self.store is False:
            raise Refused("`background` needs `store`: it is read later.", param="background")
        # Whatever a chat would refuse is refused now, and not when a worker has come to it.
        assert self.chat
        return self

    @property
    def is_stored(self) -> bool:
        """Whether the response can be read again, and continued by another."""
        return self.store is not False

    @property
    def earlier(self) -> list[InputItem]:
        """The conversation that this request continues."""
        return []

    @cached_property
    def chat(self) -> ChatRequest:
        """The chat that this request comes to. Raises Refused in this request's own words."""
        try:
            return ChatRequest.model_validate(self._chat_body())
        except ValidationError as error:
            refusal = self.in_own_words(bad_request(error))
            raise Refused(refusal.message, param=refusal.param, code=str(refusal.code)) from None

    def in_own_words(self, error: SluiceError) -> SluiceError:
        """An error about the chat, as one about this request."""
        param = own_param(error.param, self._messages.places)
        error.message = error.message.replace(f"`{error.param}`", f"`{param}`")
        error.args = (error.message,)
        error.param = param
        return error

    @cached_property
    def _messages(self) -> ChatMessages:
        chat = ChatMessages()
        if self.instructions:
            chat.say("system", self.instructions, "instructions")
        chat.take(self.earlier, "previous_response_id", numbered=False)
        chat.take(self.input, "input", numbered=True)
        return chat

    def _chat_body(self) -> dict[str, Any]:
        drawn = {
            name: getattr(self, name) for name in DrawingFields.model_fields if name in self.model_fields_set
        }
        tools, choice = self._tools_and_choice()
        asks_logprobs = bool(self.top_logprobs) or LOGPROBS in (self.include or ())
        return drawn | {
            "model": self.model,
            "messages": self._messages.messages,
            "max_completion_tokens": self.max_output_tokens,
            "response_format": self.text and self.text.response_format,
            "grammar": self.grammar,
            "tools": tools,
            "tool_choice": choice,
            "parallel_tool_calls": self.parallel_tool_calls,
            "logprobs": asks_logprobs or None,
            "top_logprobs": self.top_logprobs if asks_logprobs else None,
        }

    def _tools_and_choice(self) -> tuple[list[dict[str, Any]], Any]:
        tools, choice = self.tools or [], self.tool_choice
        if isinstance(choice, AllowedTools):
            allowed = {tool.name for tool in choice.tools}
            for name in sorted(allowed - {tool.name for tool in tools}):
                raise Refused(f"`tool_choice` names '{name}', which is no tool.", param="tool_choice")
            tools, choice = [tool for tool in tools if tool.name in allowed], choice.mode
        elif isinstance(choice, FlatNamedTool):
            return _as_chat(tools), {"type": "function", "function": {"name": choice.name}}
        return _as_chat(tools), choice


class KeptRequest(ResponseRequest):
    """A request as we keep it, and as the desk reads it. history: the conversation that it continues."""

    history: list[InputItem] = Field(default_factory=list)

    @property
    def earlier(self) -> list[InputItem]:
        """The conversation that this request continues."""
        return self.history


def _as_chat(tools: list[FlatTool]) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
        for tool in tools
    ]


def _unsupported(sentence: str, name: str | None = None) -> Refused:
    return Refused(sentence, param=name, code="unsupported_parameter")


def read_kept_request(raw: bytes) -> KeptRequest:
    """Read a kept request, or a line of a batch; BadRequest names the field and the reason."""
    return kept_request(parse_object(raw))


def kept_request(body: Mapping[str, Any]) -> KeptRequest:
    """The same for a body that was parsed already."""
    try:
        return KeptRequest.model_validate(body)
    except ValidationError as error:
        raise bad_request(error) from None
