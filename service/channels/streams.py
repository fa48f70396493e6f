"""Token streams on Redis Streams: one per (job, attempt), joined late or resumed, never the truth.

Every entry has a number. Redis may be away for a while, or forget: a follower that sees a number missing
gets no more text, and its caller sends the rest of the answer from SQL.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.channels.redis_url import client_url
from service.contract.streams import (
    Ended,
    HeardEvent,
    Restarted,
    StreamEvent,
    from_fields,
    to_fields,
)

MAX_ENTRIES = 4096
STREAM_SECONDS = 900
# A listener says every second that it is there; a client's disconnect frees its slot in less than 6 s.
ALIVE_SECONDS = 5

_REDIS_SECONDS = 0.5
_LONGEST_BLOCK_SECONDS = 2.0
_NUMBERED_STREAMS = 8192
# Each follower holds a connection while it waits; one beyond this is only ticked, and looks into SQL.
_MAX_FOLLOWERS = 4096


class Streams:
    """Publishes deltas and follows them. With no Redis at all, followers only tick."""

    def __init__(self, redis_url: str | None) -> None:
        self._writer = _client(redis_url, _REDIS_SECONDS)
        self._reader = _client(redis_url, _LONGEST_BLOCK_SECONDS + 1, max_connections=_MAX_FOLLOWERS)
        self._next_number: OrderedDict[str, int] = OrderedDict()
        self.num_dropped = 0

    def publish_many(self, events: Iterable[tuple[int, int, StreamEvent]]) -> None:
        """Append (job_id, attempt, event)s in one round trip. Called from one thread; never raises."""
        by_key: dict[str, list[dict[Any, Any]]] = defaultdict(list)
        for job_id, attempt, event in events:
            key = _stream_key(job_id, attempt)
            by_key[key].append({**to_fields(event), "number": self._numbered(key, event)})
        if self._writer is None or not by_key:
            return
        pipeline = self._writer.pipeline(transaction=False)
        for key, entries in by_key.items():
            for fields in entries:
                pipeline.xadd(key, fields, maxlen=MAX_ENTRIES, approximate=True)
            pipeline.expire(key, STREAM_SECONDS)
        try:
            pipeline.execute()
        except redis.RedisError:
            self.num_dropped += sum(map(len, by_key.values()))

    def follow(self, job_id: int, attempt: int, timeout: float) -> Iterator[HeardEvent | None]:
        """Yield a stream's events from its beginning, and None whenever `timeout` seconds brought nothing.

        Ends after Ended. A None is the caller's moment to look into SQL and to leave.
        """
        key, last, expected, whole = _stream_key(job_id, attempt), b"0-0", 0, True
        while True:
            entries = self._read(key, last, timeout)
            if not entries:
                yield None
            for entry_id, fields in entries:
                last, event, number = entry_id, from_fields(fields), int(fields[b"number"])
                if number == 0 and expected > 0:
                    # A worker that gave the job back did not burn the attempt: the next one writes to the same stream.
                    expected, whole = 0, True
                    yield Restarted()
                whole = whole and number == expected
                expected += 1
                if whole or isinstance(event, Ended):
                    yield event
                if isinstance(event, Ended):
                    return

    def keep_alive(self, job_id: int) -> None:
        """Say that somebody still listens to this job; to be repeated well within ALIVE_SECONDS."""
        if self._writer is not None:
            try:
                self._writer.set(_alive_key(job_id), 1, ex=ALIVE_SECONDS)
            except redis.RedisError:
                return

    def is_alive(self, job_id: int) -> bool:
        """Whether somebody listens. True where nobody can know: a lost Redis must not cancel chats."""
        if self._writer is None:
            return True
        try:
            return bool(self._writer.exists(_alive_key(job_id)))
        except redis.RedisError:
            return True

    def close(self) -> None:
        """Close the connections."""
        for client in (self._writer, self._reader):
            if client is not None:
                client.close()

    def _numbered(self, key: str, event: StreamEvent) -> int:
        number = self._next_number.pop(key, 0)
        if not isinstance(event, Ended):
            self._next_number[key] = number + 1
            if len(self._next_number) > _NUMBERED_STREAMS:
                self._next_number.popitem(last=False)
        return number

    def _read(self, key: str, last: bytes, timeout: float) -> list[tuple[bytes, dict[bytes, bytes]]]:
        block_seconds = min(timeout, _LONGEST_BLOCK_SECONDS)
        if self._reader is None:
            time.sleep(block_seconds)
            return []
        began = time.monotonic()
        try:
            answer: Any = self._reader.xread({key: last}, count=256, block=max(1, int(block_seconds * 1000)))
        except redis.RedisError:
            time.sleep(max(0.0, block_seconds - (time.monotonic() - began)))
            return []
        return answer[0][1] if answer else []


def _client(
    redis_url: str | None, socket_seconds: float, max_connections: int | None = None
) -> "redis.Redis | None":
    if redis_url is None:
        return None
    return redis.Redis.from_url(
        client_url(redis_url),
        socket_timeout=socket_seconds,
        socket_connect_timeout=_REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
        max_connections=max_connections,
    )


def _stream_key(job_id: int, attempt: int) -> str:
    return f"sluice:stream:{job_id}:{attempt}"


def _alive_key(job_id: int) -> str:
    return f"sluice:alive:{job_id}"
