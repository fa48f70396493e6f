"""What a chat answers: the whole completion, the chunks of a stream, and the usage of both."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from service.contract.jobs import Usage
from service.contract.streams import Delta

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]


class FunctionReply(BaseModel):
    """Which function the model wants called. arguments: JSON text, as the model wrote it."""

    name: str
    arguments: str


class ToolCallReply(BaseModel):
    """One call that the model asks for. Send its result back in a message with role `tool` and this id."""

    id: str
    type: Literal["function"]
    function: FunctionReply


class AssistantMessage(BaseModel):
    """The answer. content: null where the answer is tool calls alone."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCallReply] | None = None


class TopLogprob(BaseModel):
    """A token that could have stood here. bytes: its UTF-8, since a token may hold a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer. logprob: natural logarithm of the model's own probability; -9999 stands for never."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """One entry for each token of the answer's text."""

    content: list[TokenLogprob] | None
    refusal: None


class Choice(BaseModel):
    """One answer and why it ended; `n` of them per request."""

    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class PromptTokens(BaseModel):
    """The prompt's tokens by modality; they sum to `prompt_tokens`. cached_tokens were not computed again."""

    cached_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int


class CompletionUsage(BaseModel):
    """Tokens, and mistral.rs's rates: tokens per second, and seconds. The prompt counts once, however many answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    avg_tok_per_sec: float
    avg_prompt_tok_per_sec: float
    avg_compl_tok_per_sec: float
    total_time_sec: float
    total_prompt_time_sec: float
    total_completion_time_sec: float


class ChatCompletion(BaseModel):
    """OpenAI: the chat completion object. created: Unix seconds."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage


def completion_id(job_id: int) -> str:
    """The id that a completion carries on the wire."""
    return f"chatcmpl-{job_id}"


def completion_body(
    *, job_id: int, created: int, model: str, choices: Sequence[dict[str, Any]], usage: Usage
) -> dict[str, Any]:
    """A whole `chat.completion`. choices: as `choice_body` makes them. created: Unix seconds."""
    return {
        "id": completion_id(job_id),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": list(choices),
        "usage": usage_body(usage),
    }


def choice_body(
    *,
    index: int,
    text: str,
    finish_reason: FinishReason,
    logprobs: Sequence[Any] | None = None,
    tool_calls: Sequence[Any] = (),
) -> dict[str, Any]:
    """One of a completion's choices. logprobs: entries like `TokenLogprob`, or None where nobody asked."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if tool_calls:
        message |= {"content": text or None, "tool_calls": list(tool_calls)}
    return {
        "index": index,
        "message": message,
        "logprobs": None if logprobs is None else logprobs_body(logprobs),
        "finish_reason": finish_reason,
    }


def told_in_choice(choice: Mapping[str, Any]) -> Delta:
    """Everything that one of a completion's choices says, as one piece of a stream."""
    message = choice["message"]
    entries = (choice["logprobs"] or {}).get("content") or ()
    calls = tuple(message.get("tool_calls") or ())
    return Delta(message["content"] or "", int(choice["index"]), tuple(entries), calls)


def logprobs_body(entries: Sequence[Any]) -> dict[str, Any]:
    """What OpenAI calls a choice's `logprobs`. entries: like `TokenLogprob`."""
    return {"content": list(entries), "refusal": None}


def chunk(
    *,
    job_id: int,
    created: int,
    model: str,
    delta: dict[str, Any],
    index: int = 0,
    logprobs: Sequence[Any] = (),
    finish_reason: str | None = None,
) -> dict[str, Any]:
    """One `chat.completion.chunk` of a stream, about one of its choices."""
    choice = {
        "index": index,
        "delta": delta,
        "logprobs": logprobs_body(logprobs) if logprobs else None,
        "finish_reason": finish_reason,
    }
    return {
        "id": completion_id(job_id),
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [choice],
    }


def usage_chunk(*, job_id: int, created: int, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    """The last chunk of a stream that asked for its usage: no choices. usage: as `usage_body` makes it."""
    last = chunk(job_id=job_id, created=created, model=model, delta={})
    return {**last, "choices": [], "usage": usage}


def usage_body(usage: Usage) -> dict[str, Any]:
    """OpenAI's token counts, split by modality, and mistral.rs's rates (tokens per second, seconds)."""
    total_seconds = usage.prompt_seconds + usage.completion_seconds
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "text_tokens": usage.text_tokens,
            "image_tokens": usage.image_tokens,
            "video_tokens": usage.video_tokens,
            "audio_tokens": usage.audio_tokens,
        },
        "avg_tok_per_sec": _rate(usage.total_tokens, total_seconds),
        "avg_prompt_tok_per_sec": _rate(usage.prompt_tokens, usage.prompt_seconds),
        "avg_compl_tok_per_sec": _rate(usage.completion_tokens, usage.completion_seconds),
        "total_time_sec": round(total_seconds, 6),
        "total_prompt_time_sec": round(usage.prompt_seconds, 6),
        "total_completion_time_sec": round(usage.completion_seconds, 6),
    }


def _rate(tokens: int, seconds: float) -> float:
    return round(tokens / seconds, 3) if seconds > 0 else 0.0
