"""One engine worker: a pinned device, the models that are loaded on it once, and the desk in front of them."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.actions.parts import Parts
from service.contract.lifecycle import WorkerRole
from service.contract.models import ModelFacts
from service.contract.tickets import Wake
from service.errors import ConfigurationError
from workers.desk.approach import Approach
from workers.desk.desk import Desk
from workers.desk.keeper import Keeper, KeeperCalls
from workers.desk.publisher import Publisher
from workers.desk.recorder import Recorder
from workers.desk.seats import Seats
from workers.desk.stepper import Stepper
from workers.desk.watchdog import Watchdog
from workers.media.limits import media_limits
from workers.media.media import Media
from workers.opening import Opened, open_model
from workers.presence import Presence
from workers.uploads import open_upload

if TYPE_CHECKING:
    from workers.model.loading import Loaded, LoadOptions

log = logging.getLogger(__name__)

# sysexits.h: EX_CONFIG, where starting again cannot help; EX_SOFTWARE, where a fresh process can go on.
EXIT_CONFIGURATION, EXIT_CRASHED = 78, 70


class Device:
    """Opens in a thread of its own, so that a SIGTERM is heard while gigabytes load.

    load: what gives the model, if not `workers.model.loading.load`.
    """

    def __init__(self, parts: Parts, load: "Callable[[LoadOptions], Loaded] | None" = None) -> None:
        self._parts = parts
        self._load = load
        self._presence = Presence(parts, WorkerRole.ENGINE)
        self._desk: Desk | None = None
        self._began = time.monotonic()
        # The models that can answer: their revisions, and what is told of them.
        self._ready: dict[str, tuple[str, ModelFacts]] = {}
        self._closers: list[Callable[[], None]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._open, name="device", daemon=True)

    def start(self) -> None:
        """Begin loading, and return at once."""
        self._thread.start()

    def ring(self) -> None:
        """A ticket says that there is work."""
        if self._desk is not None:
            self._desk.ring()

    def stop(self) -> None:
        """Drain: finish what runs, give back the rest, and leave no lease behind."""
        self._stopping.set()
        if self._desk is not None:
            self._desk.drain(self._parts.settings.drain_seconds)
        for close in reversed(self._closers):
            close()
        self._presence.leave("drained")

    def _open(self) -> None:
        try:
            # The decoders' server starts before torch is in this process: its children must inherit nothing of it.
            media = self._open_media()
            self._presence.enter()
            self._open_keeper()
            self._open_desk(self._open_models(media))
        except ConfigurationError as error:
            sentence = _sentence(error)
            self._presence.leave(sentence)
            self._exit(sentence, EXIT_CONFIGURATION)
        except Exception:
            log.critical("the device could not be opened", exc_info=True)
            self._presence.leave("it could not open its device")
            self._exit("The engine worker could not start; its log says why.", EXIT_CRASHED)

    def _open_media(self) -> Media:
        settings = self._parts.settings
        media = Media(
            media_limits(settings),
            roots=settings.allowed_roots,
            read_upload=lambda tenant_id, file_id: open_upload(self._parts, tenant_id, file_id),
            num_decoders=settings.num_decoders,
        )
        media.start()
        self._closers.append(media.close)
        return media

    def _open_keeper(self) -> None:
        wakes = {Wake(name) for name in self._parts.settings.model_names}
        calls = KeeperCalls(
            lease_lost=self._lease_lost,
            cancel=lambda job_ids: self._desk.cancel(job_ids) if self._desk else None,
            listeners=lambda: self._desk.drop_unheard() if self._desk else None,
            unrung=lambda tickets: self.ring() if wakes & set(tickets) else None,
        )
        keeper = Keeper(self._parts, self._presence, calls)
        keeper.start()
        self._closers.append(keeper.close)

    def _open_models(self, media: Media) -> list[Opened]:
        """Open every model that can be; one that cannot fails alone. ConfigurationError if none can."""
        opened: list[Opened] = []
        refusals: list[ConfigurationError] = []
        every = self._parts.settings.each_model
        for settings in every:
            try:
                model = open_model(self._parts, settings, media, len(every), self._load)
            except ConfigurationError as error:
                log.error("%s cannot be served: %s", settings.model_name, _sentence(error))
                self._presence.set_model_state(settings.model_name, "failed")
                refusals.append(error)
                continue
            opened.append(model)
            self._closers.append(model.close)
        if not opened:
            raise refusals[0]
        return opened

    def _open_desk(self, opened: list[Opened]) -> None:
        """Put the rooms together around the models, and open for work."""
        settings = self._parts.settings
        served = [model.served for model in opened]
        publisher = Publisher(self._parts.streams)
        seats, approach = Seats(), Approach()
        recorder = Recorder(self._parts, publisher, seats, approach)
        stepper = Stepper(
            served,
            publisher,
            on_outcome=lambda seat, outcome: desk.settle(seat, outcome),
            on_crash=self._crashed,
            note_token=seats.note_token,
            approach=approach,
        )
        watchdog = Watchdog([each.pulse for each in served], settings.watchdog_seconds, self._crashed)
        desk = Desk(
            self._parts, served=served, stepper=stepper, recorder=recorder, seats=seats, approach=approach
        )
        for room in (publisher, recorder, stepper, watchdog):
            room.start()
            self._closers.append(room.close)
        if self._stopping.is_set():
            return
        told = {"load_seconds": round(time.monotonic() - self._began, 1)}
        self._ready = {
            model.served.name: (model.revision, model.facts.model_copy(update=told)) for model in opened
        }
        self._say_ready()
        self._desk = desk
        desk.start(self._presence.worker_id)
        for model in opened:
            log.info("ready: %s, %s", model.served.name, model.description)

    def _say_ready(self) -> None:
        for name in self._parts.settings.model_names:
            if known := self._ready.get(name):
                self._presence.set_model_state(name, "ready", *known)
            else:
                self._presence.set_model_state(name, "failed")

    def _lease_lost(self) -> None:
        """Others may hold our jobs now: drop them, and come back under a new name with the model still loaded."""
        log.warning("the lease was lost; going on as a new worker")
        self._presence.enter()
        if self._desk is not None:
            self._say_ready()
            self._desk.change_owner(self._presence.worker_id)

    def _crashed(self, sentence: str) -> None:
        """Every job in hand is a suspect now, and only a fresh process can go on."""
        self._presence.crash(sentence)
        self._exit(sentence, EXIT_CRASHED)

    def _exit(self, sentence: str, code: int) -> None:
        """End the process here and now: Celery's warm shutdown would wait for what cannot go on."""
        log.critical("%s", sentence)
        logging.shutdown()
        os._exit(code)


def _sentence(error: ConfigurationError) -> str:
    return f"{error.message} {error.hint or ''}".rstrip()
