"""The io worker's courier: tells webhooks what they have yet to hear, beside everything else that the worker does."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from service.actions.deliver_webhooks import claim_deliveries, deliver
from service.actions.parts import Parts
from service.store.deliveries import DueDelivery
from workers.away import DATABASE_AWAY, reason

log = logging.getLogger(__name__)

# So many receivers may keep us waiting at once; a webhook never holds more than one hand.
HANDS = 8
LOOK_SECONDS = 5.0


class Courier:
    """Looks for what is due when it is rung, whenever a hand is free again, and now and then."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rung = threading.Event()
        self._closed = threading.Event()
        self._hands = ThreadPoolExecutor(HANDS, thread_name_prefix="courier")
        self._free = threading.Semaphore(HANDS)
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ring(self) -> None:
        """Something is due."""
        self._rung.set()

    def stop(self) -> None:
        """Take nothing more. What is on its way ends by itself, or is sent again by another."""
        self._closed.set()
        self._rung.set()
        self._thread.join(timeout=10)
        self._hands.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        look_seconds = min(LOOK_SECONDS, self._parts.settings.webhook_retry_seconds)
        while not self._closed.is_set():
            self._rung.clear()
            try:
                self._send_out()
            except DATABASE_AWAY as exception:
                log.warning("the database is away (%s); webhooks wait", reason(exception))
            except Exception:
                log.exception("webhooks could not be looked for; trying again")
            self._rung.wait(look_seconds)

    def _send_out(self) -> None:
        num_free = sum(self._free.acquire(blocking=False) for _ in range(HANDS))
        taken: list[DueDelivery] = []
        try:
            taken = claim_deliveries(self._parts, num_free) if num_free else []
        finally:
            for _ in range(num_free - len(taken)):
                self._free.release()
        for delivery in taken:
            self._hands.submit(self._deliver, delivery)

    def _deliver(self, delivery: DueDelivery) -> None:
        try:
            deliver(self._parts, delivery)
        except Exception:
            log.exception(
                "webhook %s: nothing was written of %s; it is sent again", delivery.webhook_id, delivery.id
            )
        finally:
            self._free.release()
            self.ring()
