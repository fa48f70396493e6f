"""The chat request: what a client may ask, within bounds, and what the desk reads out of it."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from service.contract.chat_parts import Wire
from service.contract.grammars import GrammarSpec, read_grammar, read_response_format
from service.contract.media import MediaRef
from service.contract.messages import Message, for_template, media_parts
from service.contract.plain_errors import Refused, bad_request
from service.contract.sampling import SamplingFields
from service.contract.strict_json import parse_object
from service.contract.tools import NamedTool, Tool, ToolChoice, Tools, check_choice

MAX_MESSAGES = 1024
MAX_MEDIA = 256
MAX_IGNORED_NAMES = 20

# Fields that would change the answer and that we cannot obey, with the values that ask for nothing.
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"], []),
    "audio": (),
    "web_search_options": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
}
SUCCESSORS = {
    "functions": 'Put them into `tools`, each as {"type": "function", "function": {…}}.',
    "function_call": "Use `tools` and `tool_choice`.",
}
# Values that ask for what happens anyway; any other value of these fields is ignored by name.
ANYWAY_VALUES: dict[str, tuple[Any, ...]] = {
    "service_tier": ("auto", "default"),
    "store": (False,),
}


def _known_choice(value: Any) -> Any:
    if value in (None, "none", "auto", "required"):
        return value
    # huggingface_hub leaves the type out.
    if isinstance(value, dict) and value.get("type", "function") == "function":
        try:
            return NamedTool.model_validate({"type": "function", **value})
        except ValidationError:
            pass
    raise Refused(
        "`tool_choice` must be 'none', 'auto', 'required' or "
        '{"type": "function", "function": {"name": …}}.'
    )


class StreamOptions(Wire):
    """How a streamed answer is told."""

    include_usage: bool | None = None


class ChatRequest(SamplingFields):
    """POST /v1/chat/completions."""

    model: str = Field(default="default", min_length=1, max_length=512)
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    response_format: dict[str, Any] | None = None
    grammar: dict[str, Any] | None = None
    tools: Tools | None = None
    tool_choice: Annotated[ToolChoice, BeforeValidator(_known_choice)] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="after")
    def _obeyed_in_full(self) -> "ChatRequest":
        for name, value in (self.model_extra or {}).items():
            if name in NEUTRAL_VALUES and value is not None and value not in NEUTRAL_VALUES[name]:
                raise _unsupported(name)
        if not any(message.content or message.tool_calls for message in self.messages):
            raise Refused("`messages` has no content at all.", param="messages")
        if sum(1 for _ in media_parts(self.messages)) > MAX_MEDIA:
            raise Refused(
                f"`messages` has more than {MAX_MEDIA} images, videos and sounds.", param="messages"
            )
        check_choice(self.tools or (), self.tool_choice)
        self._check_form()
        return self

    def _check_form(self) -> None:
        """A request may prescribe the form of its answers in one way."""
        param = "response_format" if read_response_format(self.response_format) else "grammar"
        if read_grammar(self.grammar) and param != "grammar":
            raise Refused("Give `response_format` or `grammar`, not both.", param="grammar")
        if self.grammar_spec and self.usable_tools:
            sentence = (
                f"`{param}` cannot be used together with tools: set `tool_choice` to 'none', or leave it out."
            )
            raise Refused(sentence, param=param, code="unsupported_parameter")

    @property
    def grammar_spec(self) -> GrammarSpec | None:
        """What the answers must follow, if the request says."""
        return read_response_format(self.response_format) or read_grammar(self.grammar)

    @property
    def usable_tools(self) -> list[Tool]:
        """The tools that the model may call."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


def _unsupported(name: str) -> Refused:
    sentence = f"`{name}` is not supported. {SUCCESSORS.get(name, 'Leave it out.')}"
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
    return [part.media(param) for param, part in media_parts(request.messages)]


def template_messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The conversation for a chat template; see `for_template`."""
    return for_template(request.messages)


def ignored_fields(request: BaseModel) -> list[str]:
    """Paths of fields that we do not know and did not obey, at most MAX_IGNORED_NAMES of them."""
    given = request.model_extra or {}
    silent = {*NEUTRAL_VALUES, *(name for name, values in ANYWAY_VALUES.items() if given.get(name) in values)}
    names = (name for name in _extras(request, "") if name not in silent)
    return list(islice(names, MAX_IGNORED_NAMES))


def _extras(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, list):
        for i, child in enumerate(node):
            yield from _extras(child, f"{path}[{i}]")
    elif isinstance(node, BaseModel):
        for name, value in (node.model_extra or {}).items():
            if value is None:
                continue
            yield f"{path}.{name}" if path else name
        for name in type(node).model_fields:
            yield from _extras(getattr(node, name), f"{path}.{name}" if path else name)
