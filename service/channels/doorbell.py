"""The doorbell: tells workers over Celery that there is work. Called after a commit, never inside one."""

import logging
import threading
import time
from dataclasses import asdict
from functools import cached_property

import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.channels.celery_config import TICKET_EXPIRES_SECONDS, make_celery
from service.channels.redis_url import client_url
from service.contract.tickets import IO_QUEUE, TASK_NAMES, Ticket, Wake, engine_queue
from service.settings import Settings

log = logging.getLogger(__name__)

_BROKER_SECONDS = 0.2
_COALESCE_SECONDS = 1
# After a failure nobody waits for the broker again until this has passed.
_GIVE_UP_SECONDS = 1.0


class Doorbell:
    """Rings without waiting: a lost ticket costs a poll interval, a broker that is away costs nobody an error."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._quiet_until = 0.0
        self._rung: dict[str, float] = {}
        self._lock = threading.Lock()

    def ring(self, ticket: Ticket, workers: int = 1) -> bool:
        """Send `workers` tickets unless one like it is still unheard; False where the broker is away."""
        if time.monotonic() < self._quiet_until:
            return False
        try:
            if self._is_first(ticket):
                for _ in range(workers):
                    self._send(ticket)
        except Exception as error:
            # Kombu and redis-py raise many families here, and none of them may reach a request that has committed.
            log.warning(
                "The broker is away (%s); workers will find the work by polling.", type(error).__name__
            )
            self._quiet_until = time.monotonic() + _GIVE_UP_SECONDS
            return False
        return True

    def heard(self, ticket: Ticket) -> None:
        """Called by a worker that takes a ticket, before it looks for work: the next ring gets through."""
        if self._redis is None:
            return
        try:
            self._redis.delete(_key(ticket))
        except redis.RedisError:
            return

    def _send(self, ticket: Ticket) -> None:
        self._celery.send_task(
            TASK_NAMES[type(ticket)],
            kwargs=asdict(ticket),
            queue=engine_queue(ticket.model) if isinstance(ticket, Wake) else IO_QUEUE,
            expires=TICKET_EXPIRES_SECONDS,
            retry=False,
            ignore_result=True,
        )

    def _is_first(self, ticket: Ticket) -> bool:
        if self._redis is not None:
            return bool(self._redis.set(_key(ticket), 1, nx=True, ex=_COALESCE_SECONDS))
        now = time.monotonic()
        with self._lock:
            self._rung = {key: due for key, due in self._rung.items() if due > now}
            if _key(ticket) in self._rung:
                return False
            self._rung[_key(ticket)] = now + _COALESCE_SECONDS
            return True

    @cached_property
    def _redis(self) -> "redis.Redis | None":
        if not self._settings.redis_url:
            return None
        return redis.Redis.from_url(
            client_url(self._settings.redis_url),
            socket_timeout=_BROKER_SECONDS,
            socket_connect_timeout=_BROKER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    @cached_property
    def _celery(self) -> Celery:
        app = make_celery(self._settings)
        if self._settings.redis_url:
            app.conf.broker_transport_options = {
                "socket_timeout": _BROKER_SECONDS,
                "socket_connect_timeout": _BROKER_SECONDS,
                "connect_retries_timeout": _BROKER_SECONDS,
                "max_retries": 1,
                "interval_start": 0,
                "interval_step": 0,
            }
        return app


def _key(ticket: Ticket) -> str:
    return ":".join(["sluice", TASK_NAMES[type(ticket)], *asdict(ticket).values()])
