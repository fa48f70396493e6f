"""A request that waits for its job's reply, and gives the job up when its client has left."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any

from flask import request

from service.actions.cancel_job import cancel_job
from service.actions.follow_chat import ChatEvent, Quiet, Replied, follow_chat
from service.actions.parts import Parts
from service.api.sse import DONE, KEEP_ALIVE, KEEP_ALIVE_SECONDS, ClientGone, client_is_gone, data
from service.contract.callers import Caller
from service.contract.streams import Delta
from service.errors import SluiceError

log = logging.getLogger(__name__)


def listen(
    parts: Parts,
    caller: Caller,
    job_id: int,
    *,
    with_deltas: bool = False,
    may_come_back: bool = False,
) -> Generator[ChatEvent, None, None]:
    """The job's events; when the client leaves, or we do, the job is cancelled and its slot freed.

    may_come_back: it has a few seconds to send its request again, until the worker misses a listener.
    """
    environ, over = request.environ, False
    try:
        for event in follow_chat(parts, caller, job_id, with_deltas=with_deltas):
            if isinstance(event, Quiet) and client_is_gone(environ):
                raise ClientGone("The client has left.")
            over = isinstance(event, Replied)
            yield event
    finally:
        if not (over or may_come_back):
            cancel_job(parts, caller, job_id)


def reply_in(events: Iterator[ChatEvent]) -> dict[str, Any]:
    """The body that the job replied with, once it is there."""
    return last_word(events).body


def last_word(events: Iterator[ChatEvent]) -> Replied:
    """The reply, once it is there."""
    for event in events:
        if isinstance(event, Replied):
            return event
    raise AssertionError("a job ends with its reply or an error")


def first_word(events: Iterator[ChatEvent]) -> ChatEvent:
    """The first event of a stream that is worth a status line.

    Errors that come before the first word, like a missing image, keep the status that they have unstreamed.
    """
    patience_ends = time.monotonic() + KEEP_ALIVE_SECONDS
    for event in events:
        if not isinstance(event, Quiet) or time.monotonic() > patience_ends:
            return event
    raise AssertionError("a job ends with its reply or an error")


def told(
    first: ChatEvent,
    rest: Generator[ChatEvent, None, None],
    say: Callable[[Delta | Replied], Iterator[bytes]],
    opening: Iterable[bytes] = (),
) -> Iterator[bytes]:
    """A job's events as the bytes of a stream, with signs of life between them; an error is its last event.

    say: what stands on the line for an event. opening: what stands there before the first.
    """
    last_write = time.monotonic()
    try:
        with closing(rest):
            yield from opening
            for event in chain([first], rest):
                if not isinstance(event, Quiet):
                    last_write = time.monotonic()
                    yield from say(event)
                elif time.monotonic() - last_write > KEEP_ALIVE_SECONDS:
                    last_write = time.monotonic()
                    yield KEEP_ALIVE
        yield DONE
    except ClientGone:
        return
    except SluiceError as error:
        yield data({"error": error.as_dict()})
    except Exception:
        log.exception("A stream broke off.")
        yield data({"error": SluiceError("Something went wrong on our side.").as_dict()})
