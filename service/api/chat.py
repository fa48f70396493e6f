"""POST /v1/chat/completions, whole and streamed."""

from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from service.actions.follow_chat import ChatEvent, Replied
from service.actions.start_chat import StartedChat, start_chat
from service.api.context import current_caller, current_parts, current_request
from service.api.errors import REFUSALS
from service.api.headers import CompletionHeaders, name_ignored, tell_cache
from service.api.listening import first_word, last_word, listen, told
from service.api.paths import current_path_model
from service.api.sse import data, event_stream
from service.contract.openai import ChatRequest, chunk, ignored_fields, usage_chunk
from service.contract.replies import ChatCompletion
from service.contract.streams import Delta

api = APIBlueprint("chat", __name__, url_prefix="/v1", abp_responses=REFUSALS)


@api.post("/chat/completions", responses={200: ChatCompletion})
def create_completion(header: CompletionHeaders, body: ChatRequest) -> Response:
    """Answer a conversation with images, videos and sounds. OpenAI: POST /v1/chat/completions."""
    parts, caller = current_parts(), current_caller()
    raw = current_request().raw_body()
    chat = start_chat(
        parts,
        caller,
        body,
        raw,
        wait_for_model=header.wait_for_model,
        path_model=current_path_model(),
        use_cache=header.use_cache,
        idempotency_key=header.idempotency_key,
    )
    events = listen(
        parts,
        caller,
        chat.job_id,
        with_deltas=bool(body.stream),
        may_come_back=header.idempotency_key is not None,
    )
    response = _stream(events, chat, body) if body.stream else _whole(events, chat)
    name_ignored(response, ignored_fields(body))
    return response


def _whole(events: Iterator[ChatEvent], chat: StartedChat) -> Response:
    reply = last_word(events)
    response = Response(orjson.dumps(reply.body), content_type="application/json")
    tell_cache(response, chat, reply)
    return response


def _stream(events: Generator[ChatEvent, None, None], chat: StartedChat, body: ChatRequest) -> Response:
    first = first_word(events)
    line = _Line(chat, body)
    response = event_stream(told(first, events, line.said, line.opening()))
    tell_cache(response, chat, first)
    return response


class _Line:
    """How a chat's events stand on the line."""

    def __init__(self, chat: StartedChat, request: ChatRequest) -> None:
        self._names: dict[str, Any] = {"job_id": chat.job_id, "created": chat.created, "model": chat.model}
        self._num_choices = request.num_choices
        self._include_usage = request.include_usage
        self._num_calls: Counter[int] = Counter()

    def opening(self) -> Iterator[bytes]:
        """Every choice begins with its role."""
        for index in range(self._num_choices):
            yield self._chunk({"role": "assistant", "content": ""}, index=index)

    def said(self, event: Delta | Replied) -> Iterator[bytes]:
        """One event; the reply is the last."""
        if isinstance(event, Delta):
            yield self._more(event)
        else:
            yield from self._ending(event.body, event.rest)

    def _more(self, delta: Delta) -> bytes:
        said: dict[str, Any] = {"content": delta.text} if delta.text or not delta.tool_calls else {}
        if delta.tool_calls:
            first = self._num_calls[delta.index]
            self._num_calls[delta.index] += len(delta.tool_calls)
            said["tool_calls"] = [
                {"index": number, **call} for number, call in enumerate(delta.tool_calls, start=first)
            ]
        return self._chunk(said, index=delta.index, logprobs=delta.logprobs)

    def _chunk(self, delta: dict[str, Any], **choice: Any) -> bytes:
        said = chunk(**self._names, delta=delta, **choice)
        return data(said | {"usage": None} if self._include_usage else said)

    def _ending(self, body: dict[str, Any], rest: tuple[Delta, ...]) -> Iterator[bytes]:
        yield from map(self._more, rest)
        for choice in body["choices"]:
            yield self._chunk({}, index=choice["index"], finish_reason=choice["finish_reason"])
        if self._include_usage:
            yield data(usage_chunk(**self._names, usage=body["usage"]))
