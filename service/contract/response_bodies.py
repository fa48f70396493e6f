"""A response's body, while it is made and once it is there, and what it says."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from service.contract.jobs import Usage
from service.contract.replies import choice_body
from service.contract.response_items import ItemStatus
from service.contract.response_objects import ResponseStatus, response_id
from service.contract.responses import ResponseRequest
from service.contract.streams import Delta


def response_body(
    request: ResponseRequest, *, job_id: int, created: int, model: str, status: ResponseStatus, **rest: Any
) -> dict[str, Any]:
    """A response of any status. rest: output, usage, error, incomplete_details, completed_at, where there are any."""
    return {
        "id": response_id(job_id),
        "object": "response",
        "created_at": created,
        "completed_at": None,
        "status": status,
        "background": bool(request.background),
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "store": request.is_stored,
        "temperature": request.chat.sampling_temperature,
        "text": {"format": (request.text and request.text.format) or {"type": "text"}},
        "tool_choice": _shown(request.tool_choice) or "auto",
        "tools": [_shown_tool(tool.model_dump(exclude_none=True)) for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
        **rest,
    }


def answered_body(
    request: ResponseRequest,
    *,
    job_id: int,
    created: int,
    model: str,
    choices: Sequence[Mapping[str, Any]],
    usage: Usage,
) -> dict[str, Any]:
    """The response once the model has answered. choices: one, as `choice_body` makes it. created: Unix seconds."""
    choice = choices[0]
    is_whole = choice["finish_reason"] != "length"
    return response_body(
        request,
        job_id=job_id,
        created=created,
        model=model,
        status="completed" if is_whole else "incomplete",
        completed_at=created if is_whole else None,
        incomplete_details=None if is_whole else {"reason": "max_output_tokens"},
        output=_output(job_id, choice, "completed" if is_whole else "incomplete"),
        usage=_usage(usage),
    )


def _output(job_id: int, choice: Mapping[str, Any], status: ItemStatus) -> list[dict[str, Any]]:
    message = choice["message"]
    calls = [call_item(call) for call in message.get("tool_calls") or ()]
    words = message["content"] or ""
    if not words and calls:
        return calls
    entries = (choice["logprobs"] or {}).get("content") or ()
    return [message_item(job_id, status, [text_part(words, entries)]), *calls]


def message_item(job_id: int, status: ItemStatus, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer in words; a response has one of them at most."""
    return {
        "type": "message",
        "id": f"msg_{job_id}",
        "role": "assistant",
        "status": status,
        "content": list(content),
    }


def text_part(text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    """Words within an item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def call_item(call: Mapping[str, Any], status: ItemStatus = "completed") -> dict[str, Any]:
    """A call as an item. call: as chat has it."""
    return {
        "type": "function_call",
        "id": f"fc_{str(call['id']).removeprefix('call_')}",
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": call["function"]["arguments"],
        "status": status,
    }


def told_in_response(body: Mapping[str, Any]) -> Delta:
    """Everything that a response's body says, as one piece of a stream."""
    words, entries, calls = "", [], []
    for item in body["output"]:
        if item["type"] == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            calls.append({"id": item["call_id"], "type": "function", "function": function})
        else:
            for part in item["content"]:
                words += part["text"]
                entries += part["logprobs"]
    return Delta(words, 0, tuple(entries), tuple(calls))


def choice_in_response(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a response says, as the choice of a completion that it was made from."""
    said, is_whole = told_in_response(body), body["status"] == "completed"
    return choice_body(
        index=0,
        text=said.text,
        finish_reason=("tool_calls" if said.tool_calls else "stop") if is_whole else "length",
        logprobs=said.logprobs,
        tool_calls=said.tool_calls,
    )


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": 0,
            "text_tokens": usage.text_tokens,
            "image_tokens": usage.image_tokens,
            "video_tokens": usage.video_tokens,
            "audio_tokens": usage.audio_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


def _shown(choice: Any) -> Any:
    return choice.model_dump() if isinstance(choice, BaseModel) else choice


def _shown_tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {"description": None, "parameters": None, "strict": None} | tool
