"""A response's events on the line."""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain

from service.actions.follow_chat import ChatEvent, Quiet, Replied
from service.actions.read_responses import FoundResponse
from service.api.sse import KEEP_ALIVE, KEEP_ALIVE_SECONDS, ClientGone, named_data
from service.contract.response_events import Event, ResponseEvents
from service.contract.streams import Delta
from service.errors import SluiceError

log = logging.getLogger(__name__)


LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


def told(
    found: FoundResponse,
    events: Generator[ChatEvent, None, None],
    *,
    first: ChatEvent | None = None,
    starting_after: int = -1,
) -> Iterator[bytes]:
    """What is heard of a response's job, as the bytes of its stream. first: an event that was taken out already.

    starting_after: events up to this number are left out, but for the last one, which has everything in it.
    """
    written_at = time.monotonic()
    with closing(_numbered(found, events, first)) as numbered:
        for event in numbered:
            if event is not None and event["type"] in LAST:
                event["sequence_number"] = max(event["sequence_number"], starting_after + 1)
            if event is not None and event["sequence_number"] > starting_after:
                written_at = time.monotonic()
                yield named_data(event["type"], event)
            elif time.monotonic() - written_at > KEEP_ALIVE_SECONDS:
                written_at = time.monotonic()
                yield KEEP_ALIVE


def _numbered(
    found: FoundResponse, events: Generator[ChatEvent, None, None], first: ChatEvent | None
) -> Generator[Event | None, None, None]:
    """The stream's events, and None for a quiet moment."""
    said = ResponseEvents(found.as_begun(), found.job.id)
    try:
        with closing(events):
            yield from said.begin()
            for event in chain([] if first is None else [first], events):
                yield from _said(said, found, event)
    except ClientGone:
        return
    except SluiceError as error:
        yield from said.end(found.as_ended_by(error))
    except Exception:
        log.exception("A stream broke off.")
        yield from said.end(found.as_ended_by(SluiceError("Something went wrong on our side.")))


def _said(said: ResponseEvents, found: FoundResponse, event: ChatEvent) -> Iterator[Event | None]:
    match event:
        case Delta():
            yield from said.more(event)
        case Replied(body, rest):
            for delta in rest:
                yield from said.more(delta)
            yield from said.end(found.as_answered(body))
        case Quiet():
            yield None
