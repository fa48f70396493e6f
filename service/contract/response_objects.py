"""The objects of the Responses API, as the openai client knows them, with a few fields of our own."""

import re
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from service.contract.replies import TokenLogprob
from service.contract.response_items import ItemStatus
from service.errors import NotFound

ResponseStatus: TypeAlias = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

_RESPONSE_ID = re.compile(r"resp_([1-9][0-9]{0,17})")


class ResponseText(BaseModel):
    """Words of the answer. logprobs: an entry for each token, where they were asked for."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[TokenLogprob]


class ResponseMessage(BaseModel):
    """The answer in words."""

    type: Literal["message"]
    id: str
    role: Literal["assistant"]
    status: ItemStatus
    content: list[ResponseText]


class ResponseCall(BaseModel):
    """A call that the model asks for. Send its result back as a `function_call_output` with this call_id."""

    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class InputTokens(BaseModel):
    """The input's tokens by modality (ours); cached_tokens were not computed again."""

    cached_tokens: int
    cache_write_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int


class OutputTokens(BaseModel):
    """Tokens that were not shown."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """Tokens of one response."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class ResponseFailure(BaseModel):
    """Why a response failed. code: one of OpenAI's; the rest is ours, as in every error."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    param: str | None = None
    type: str | None = None
    retryable: bool = False
    hint: str | None = None


class Incompleteness(BaseModel):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"]


class ResponseObject(BaseModel):
    """OpenAI: the response object. created_at, completed_at: Unix seconds."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: ResponseStatus
    background: bool
    error: ResponseFailure | None
    incomplete_details: Incompleteness | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[ResponseMessage | ResponseCall]
    parallel_tool_calls: bool
    previous_response_id: str | None
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None


class InputItemObject(BaseModel):
    """One item of a response's input, as it was sent, with an id."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str


class InputItemList(BaseModel):
    """A page of a response's input."""

    object: Literal["list"] = "list"
    data: list[InputItemObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class DeletedResponse(BaseModel):
    """What deleting a response answers."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


def response_id(job_id: int) -> str:
    """`resp_12` for 12."""
    return f"resp_{job_id}"


def response_number(response_id: str) -> int:
    """12 for `resp_12`; NotFound for anything else."""
    match = _RESPONSE_ID.fullmatch(response_id)
    if match is None:
        raise unknown_response()
    return int(match[1])


def unknown_response() -> NotFound:
    """Unknown, another tenant's, deleted, or never stored."""
    return NotFound("There is no response of this id.", param="response_id", code="response_not_found")
