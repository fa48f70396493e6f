"""The events of a response's stream, numbered, from what a listener hears of its job."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from service.contract.response_bodies import call_item, message_item, text_part
from service.contract.streams import Delta

Event: TypeAlias = dict[str, Any]

# OpenAI has no event for the end of a response that was cancelled.
LAST_EVENTS = {"completed": "completed", "incomplete": "incomplete"}


class ResponseEvents:
    """One listener's events. The same answer gives the same events, however often it is listened to.

    body: the response as it was made: queued, or in progress. The answer in words is one item, open until the end.
    """

    def __init__(self, body: Mapping[str, Any], job_id: int) -> None:
        self._body, self._job_id = dict(body), job_id
        self._number, self._has_begun = 0, False
        self._items: list[str] = []
        self._message_at: int | None = None
        self._words = ""
        self._logprobs: list[Any] = []

    def begin(self) -> Iterator[Event]:
        """It was made, and waits or runs."""
        yield self._event("created", response=self._body)
        if self._body["status"] == "queued":
            yield self._event("queued", response=self._body)
        else:
            yield from self._run()

    def more(self, delta: Delta) -> Iterator[Event]:
        """More of the answer."""
        yield from self._run()
        if delta.text or delta.logprobs:
            yield from self._say(delta)
        for call in delta.tool_calls:
            yield from self._call(call)

    def end(self, body: Mapping[str, Any]) -> Iterator[Event]:
        """It has ended. body: the whole response; what of it was not told yet must have been given to `more`."""
        status = body["status"]
        if status in LAST_EVENTS and not self._items:
            # It was answered, with nothing to say.
            yield from self._run()
            yield from self._open_message()
        if self._message_at is not None:
            yield from self._close_message(status)
        output = sorted(body["output"], key=lambda item: self._place_of(item["id"]))
        yield self._event(LAST_EVENTS.get(status, "failed"), response={**body, "output": output})

    def _run(self) -> Iterator[Event]:
        if not self._has_begun:
            self._has_begun = True
            yield self._event("in_progress", response={**self._body, "status": "in_progress"})

    def _say(self, delta: Delta) -> Iterator[Event]:
        if self._message_at is None:
            yield from self._open_message()
        self._words += delta.text
        self._logprobs += delta.logprobs
        yield self._of_text("output_text.delta", delta=delta.text, logprobs=list(delta.logprobs))

    def _open_message(self) -> Iterator[Event]:
        item = message_item(self._job_id, "in_progress", [])
        self._message_at = len(self._items)
        yield self._added(item)
        yield self._of_text("content_part.added", part=text_part(""))

    def _close_message(self, status: str) -> Iterator[Event]:
        part = text_part(self._words, self._logprobs)
        ended = message_item(self._job_id, "completed" if status == "completed" else "incomplete", [part])
        yield self._of_text("output_text.done", text=self._words, logprobs=list(self._logprobs))
        yield self._of_text("content_part.done", part=part)
        yield self._event("output_item.done", output_index=self._message_at, item=ended)

    def _call(self, call: Mapping[str, Any]) -> Iterator[Event]:
        """Calls come whole."""
        item, place = call_item(call), len(self._items)
        where = {"item_id": item["id"], "output_index": place}
        yield self._added({**item, "arguments": "", "status": "in_progress"})
        yield self._event("function_call_arguments.delta", **where, delta=item["arguments"])
        yield self._event(
            "function_call_arguments.done", **where, name=item["name"], arguments=item["arguments"]
        )
        yield self._event("output_item.done", output_index=place, item=item)

    def _added(self, item: Mapping[str, Any]) -> Event:
        place = len(self._items)
        self._items.append(item["id"])
        return self._event("output_item.added", output_index=place, item=item)

    def _of_text(self, name: str, **fields: Any) -> Event:
        item_id, place = f"msg_{self._job_id}", self._message_at
        return self._event(name, item_id=item_id, output_index=place, content_index=0, **fields)

    def _place_of(self, item_id: str) -> int:
        """Where the stream has it: calls may have come before the words."""
        return self._items.index(item_id) if item_id in self._items else len(self._items)

    def _event(self, name: str, /, **fields: Any) -> Event:
        event = {"type": f"response.{name}", "sequence_number": self._number, **fields}
        self._number += 1
        return event
