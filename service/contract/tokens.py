"""Tokens on the wire, as vLLM spells them: what text and conversations become, and what tokens stand for."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from service.contract.chat import MAX_MEDIA, MAX_MESSAGES
from service.contract.chat_parts import Wire
from service.contract.messages import Message, media_parts
from service.contract.plain_errors import Refused, bad_request
from service.contract.replies import PromptTokens
from service.contract.sampling import TokenId
from service.contract.strict_json import parse_object
from service.contract.tools import Tools

MAX_PROMPT_CHARACTERS = 1 << 20
MAX_TOKENS = 1 << 18

ModelName = Annotated[str, Field(min_length=1, max_length=512)]


def _plain_prompt(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise Refused("`prompt` must be one string.")
    return value


class TokenizeRequest(Wire):
    """POST /v1/tokenize: either a text or a conversation.

    add_special_tokens: whether a text gets those that begin a prompt; a conversation has them from its template.
    """

    model: ModelName = "default"
    prompt: Annotated[
        Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] | None,
        BeforeValidator(_plain_prompt, json_schema_input_type=str | None),
    ] = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None
    tools: Tools | None = None
    add_generation_prompt: bool = True
    add_special_tokens: bool | None = None
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise Refused("Give either `prompt` or `messages`.", param="prompt")
        if self.prompt is not None and self.tools:
            raise Refused("`tools` belong to `messages`; a `prompt` has none.", param="tools")
        if self.messages is not None:
            self._check_messages(self.messages)
        if (self.model_extra or {}).get("continue_final_message"):
            raise _unsupported("continue_final_message")
        return self

    def _check_messages(self, messages: list[Message]) -> None:
        if self.add_special_tokens:
            raise Refused(
                "The model's template gives `messages` their special tokens. Leave `add_special_tokens` out.",
                param="add_special_tokens",
                code="unsupported_parameter",
            )
        if not any(message.content or message.tool_calls for message in messages):
            raise Refused("`messages` has no content at all.", param="messages")
        if sum(1 for _ in media_parts(messages)) > MAX_MEDIA:
            raise Refused(
                f"`messages` has more than {MAX_MEDIA} images, videos and sounds.", param="messages"
            )


class TokenizeReply(BaseModel):
    """The tokens. max_model_len: how many a prompt and its answer may have together.

    token_strs: as the vocabulary spells them. prompt_tokens_details: the count by modality.
    """

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None
    prompt_tokens_details: PromptTokens


class DetokenizeRequest(Wire):
    """POST /v1/detokenize."""

    model: ModelName = "default"
    tokens: list[TokenId] = Field(max_length=MAX_TOKENS)


class DetokenizeReply(BaseModel):
    """The text that tokens stand for, special ones among it."""

    prompt: str


def parse_tokenize_request(raw: bytes) -> TokenizeRequest:
    """Read a request body from JSON bytes; BadRequest names the field and the reason."""
    try:
        return TokenizeRequest.model_validate(parse_object(raw))
    except ValidationError as error:
        raise bad_request(error) from None


def parse_detokenize_request(raw: bytes) -> DetokenizeRequest:
    """Read a request body from JSON bytes; BadRequest names the field and the reason."""
    try:
        return DetokenizeRequest.model_validate(parse_object(raw))
    except ValidationError as error:
        raise bad_request(error) from None


def _unsupported(name: str) -> Refused:
    return Refused(f"`{name}` is not supported yet. Leave it out.", param=name, code="unsupported_parameter")
