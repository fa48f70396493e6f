"""How often something happened in the last minute, counted in Redis for all processes together.

While Redis is away each process counts for itself: never an error, and never without a limit.
"""

import logging
import time
from dataclasses import dataclass
from functools import cached_property

import redis
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.channels.redis_url import client_url

log = logging.getLogger(__name__)

_REDIS_SECONDS = 0.2
# After a failure nobody waits for Redis again until this has passed.
_GIVE_UP_SECONDS = 1.0
_PREFIX = "sluice:rates"


@dataclass(frozen=True, slots=True)
class Rate:
    """Whether there was room. remaining: how much room is left. reset_seconds: until the oldest event is forgotten."""

    allowed: bool
    remaining: int
    reset_seconds: float


class Rates:
    """Moving windows of a minute."""

    def __init__(self, redis_url: str | None) -> None:
        self._redis_url = redis_url
        self._quiet_until = 0.0

    def take(self, name: str, per_minute: int) -> Rate:
        """Count one event of this name unless there were `per_minute` in the last minute."""
        if self._redis_url is not None and time.monotonic() >= self._quiet_until:
            try:
                return _take(self._shared, name, per_minute)
            except redis.RedisError as error:
                log.warning("Redis is away (%s); rates are counted in this process.", type(error).__name__)
                self._quiet_until = time.monotonic() + _GIVE_UP_SECONDS
        return _take(self._own, name, per_minute)

    def close(self) -> None:
        """Close the connections."""
        if "_pool" in self.__dict__:
            self._pool.disconnect()

    @cached_property
    def _shared(self) -> MovingWindowRateLimiter:
        assert self._redis_url is not None
        url = client_url(self._redis_url)
        return MovingWindowRateLimiter(RedisStorage(url, connection_pool=self._pool, key_prefix=_PREFIX))

    @cached_property
    def _pool(self) -> redis.ConnectionPool:
        assert self._redis_url is not None
        return redis.ConnectionPool.from_url(
            client_url(self._redis_url),
            socket_timeout=_REDIS_SECONDS,
            socket_connect_timeout=_REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    @cached_property
    def _own(self) -> MovingWindowRateLimiter:
        return MovingWindowRateLimiter(MemoryStorage())


def _take(limiter: MovingWindowRateLimiter, name: str, per_minute: int) -> Rate:
    window = RateLimitItemPerMinute(per_minute)
    allowed = per_minute > 0 and limiter.hit(window, name)
    stats = limiter.get_window_stats(window, name)
    return Rate(allowed, max(0, stats.remaining), max(0.0, stats.reset_time - time.time()))
