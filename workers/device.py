"""One engine worker: a pinned device, the model that is loaded on it once, and the desk in front of them."""

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.actions.parts import Parts
from service.contract.lifecycle import WorkerRole
from service.contract.tickets import Wake
from service.errors import ConfigurationError
from workers.desk.desk import Desk
from workers.desk.keeper import Keeper, KeeperCalls
from workers.desk.publisher import Publisher
from workers.desk.recorder import Recorder
from workers.desk.seats import Seats
from workers.desk.stepper import Stepper
from workers.desk.watchdog import Pulse, Watchdog
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.media.limits import MediaLimits
from workers.media.media import Media
from workers.presence import Presence
from workers.uploads import open_upload

if TYPE_CHECKING:
    from workers.model.loading import Loaded, LoadOptions
    from workers.model.prepare_pool import PreparerPool
    from workers.model.prompter_source import PrompterSource

log = logging.getLogger(__name__)

# sysexits.h: EX_CONFIG, where starting again cannot help; EX_SOFTWARE, where a fresh process can go on.
EXIT_CONFIGURATION, EXIT_CRASHED = 78, 70

# Prompt tokens in one forward. On a CPU a forward of this size is as cheap per token as a larger one, and a chat that
# arrives meanwhile waits for less.
PREFILL_TOKENS = defaultdict(lambda: 4096, cpu=1024)
# While chats come, bulk may take this part of it.
BESIDE_CHAT = 4


class Device:
    """Opens in a thread of its own, so that a SIGTERM is heard while gigabytes load.

    load: what gives the model, if not `workers.model.loading.load`.
    """

    def __init__(self, parts: Parts, load: "Callable[[LoadOptions], Loaded] | None" = None) -> None:
        self._parts = parts
        self._load = load
        self._presence = Presence(parts, WorkerRole.ENGINE)
        self._desk: Desk | None = None
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
            self._open_desk(media)
        except ConfigurationError as error:
            sentence = f"{error.message} {error.hint or ''}".rstrip()
            self._presence.set_model_state("failed")
            self._presence.leave(sentence)
            self._exit(sentence, EXIT_CONFIGURATION)
        except Exception:
            log.critical("the device could not be opened", exc_info=True)
            self._presence.leave("it could not open its device")
            self._exit("The engine worker could not start; its log says why.", EXIT_CRASHED)

    def _open_media(self) -> Media:
        settings = self._parts.settings
        media = Media(
            MediaLimits(),
            roots=settings.allowed_roots,
            read_upload=lambda tenant_id, file_id: open_upload(self._parts, tenant_id, file_id),
            num_decoders=settings.num_decoders,
        )
        media.start()
        self._closers.append(media.close)
        return media

    def _open_keeper(self) -> None:
        settings = self._parts.settings
        calls = KeeperCalls(
            lease_lost=self._lease_lost,
            cancel=lambda job_ids: self._desk.cancel(job_ids) if self._desk else None,
            listeners=lambda: self._desk.drop_unheard() if self._desk else None,
            unrung=lambda tickets: self.ring() if Wake(settings.model_name) in tickets else None,
        )
        keeper = Keeper(self._parts, self._presence, calls)
        keeper.start()
        self._closers.append(keeper.close)

    def _open_desk(self, media: Media) -> None:
        """Load the model, put the rooms together around it, and open for work."""
        # Imported here: torch takes seconds, and the process should be seen and stoppable before.
        from workers.desk.prepare import Preparer
        from workers.model import loading
        from workers.model.cache_budgets import cache_budgets
        from workers.model.choose_model import Limits, make_slot_model
        from workers.model.prompter_source import PrompterSource

        settings = self._parts.settings
        options = loading.LoadOptions.from_settings(settings)
        pool = self._begin_preparers(PrompterSource.of(options))
        loaded = (self._load or loading.load)(options)
        prefill_tokens = PREFILL_TOKENS[loaded.model.device.type]
        config = EngineConfig(
            max_prefill_tokens=prefill_tokens, max_bulk_tokens_beside_chat=prefill_tokens // BESIDE_CHAT
        )
        caches = cache_budgets(loaded.model.device, settings.prefix_cache_bytes, settings.encoder_cache_bytes)
        limits = Limits(settings.max_slots, settings.max_context_tokens, **caches)
        serving = make_slot_model(loaded, limits, config)
        model = serving.model
        publisher = Publisher(self._parts.streams)
        seats = Seats()
        recorder = Recorder(self._parts, publisher, seats)
        engine = Engine(model, serving.config)
        pulse = Pulse(engine, settings.model_name, loaded.slowest_seconds_per_token)
        stepper = Stepper(
            engine,
            publisher,
            provenance=loaded.provenance,
            on_outcome=lambda seat, outcome: desk.settle(seat, outcome),
            on_crash=self._crashed,
            note_token=seats.note_token,
            pulse=pulse,
        )
        watchdog = Watchdog([pulse], settings.watchdog_seconds, self._crashed)
        desk = Desk(
            self._parts,
            models=(settings.model_name,),
            num_slots=model.num_slots,
            preparer=Preparer(self._parts, media, loaded.prompter, model.max_context_tokens, pool),
            stepper=stepper,
            recorder=recorder,
            seats=seats,
        )
        if pool is not None:
            pool.start()
        for room in (publisher, recorder, stepper, watchdog):
            room.start()
            self._closers.append(room.close)
        if self._stopping.is_set():
            return
        self._presence.set_model_state("ready", loaded.revision)
        self._desk = desk
        desk.start(self._presence.worker_id)
        log.info("ready: %s, %s", settings.model_name, loaded.description)

    def _begin_preparers(self, source: "PrompterSource") -> "PreparerPool | None":
        """Their server imports and loads while we do."""
        from workers.model.prepare_pool import PreparerPool

        if not (num_preparers := self._parts.settings.num_preparers):
            return None
        pool = PreparerPool(source, num_preparers)
        self._closers.append(pool.close)
        return pool

    def _lease_lost(self) -> None:
        """Others may hold our jobs now: drop them, and come back under a new name with the model still loaded."""
        log.warning("the lease was lost; going on as a new worker")
        self._presence.enter()
        if self._desk is not None:
            self._presence.set_model_state("ready")
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
