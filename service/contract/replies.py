"""What a chat answers: the whole completion, the chunks of a stream, and the usage of both."""

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from service.contract.jobs import Usage

FinishReason: TypeAlias = Literal["stop", "length"]


class AssistantMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None


class Choice(BaseModel):
    """One answer and why it ended. There is one choice per request."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: FinishReason


class PromptTokens(BaseModel):
    """The prompt's tokens by modality; they sum to `prompt_tokens`. cached_tokens were not computed again."""

    cached_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int


class CompletionUsage(BaseModel):
    """Tokens, and mistral.rs's rates: tokens per second, and seconds."""

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
    *, job_id: int, created: int, model: str, text: str, finish_reason: FinishReason, usage: Usage
) -> dict[str, Any]:
    """A whole `chat.completion`. created: Unix seconds."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": completion_id(job_id),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage_body(usage),
    }


def chunk(
    *, job_id: int, created: int, model: str, delta: dict[str, Any], finish_reason: str | None = None
) -> dict[str, Any]:
    """One `chat.completion.chunk` of a stream."""
    return {
        "id": completion_id(job_id),
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
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
            "cached_tokens": 0,
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
