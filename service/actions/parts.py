"""The parts that every action works with, wired together once per process."""

from dataclasses import dataclass, field

from service.actions.door import Door
from service.actions.in_hand import InHand
from service.actions.meters import Meters
from service.actions.watches import Watches
from service.channels.addresses import Reach
from service.channels.blobs import Blobs
from service.channels.dialer import Dialer
from service.channels.doorbell import Doorbell
from service.channels.rates import Rates
from service.channels.streams import Streams
from service.settings import Settings
from service.store.database import (
    CHECKPOINT_PAGES,
    INGEST_CACHE_BYTES,
    LATE_CHECKPOINT_PAGES,
    LOOKUP_CACHE_BYTES,
    Database,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Where an action finds SQL, blobs, the doorbell and the token streams.

    door: who came in lately. meters, rates: what tenants may use and what they have used.
    dialer: the way to addresses that strangers name. exporting: the batches whose files this process is writing.
    watches: those that somebody watches.
    """

    settings: Settings
    database: Database
    blobs: Blobs
    doorbell: Doorbell
    streams: Streams
    door: Door
    meters: Meters
    rates: Rates
    dialer: Dialer
    watches: Watches
    exporting: InHand = field(default_factory=InHand)

    def close(self) -> None:
        """Close what holds connections."""
        self.streams.close()
        self.rates.close()
        self.door.uses.close()
        self.database.close()


def assemble(settings: Settings, *, only_looks_up: bool = False, is_waited_for: bool = False) -> Parts:
    """Wire the parts; nothing connects before it is used.

    only_looks_up: for a process with many threads, each of which asks SQL for little at a time. is_waited_for: for one
    whose commits somebody waits for.
    """
    database = Database(
        settings.database_url,
        cache_bytes=LOOKUP_CACHE_BYTES if only_looks_up else INGEST_CACHE_BYTES,
        checkpoint_pages=LATE_CHECKPOINT_PAGES if is_waited_for else CHECKPOINT_PAGES,
    )
    return Parts(
        settings=settings,
        database=database,
        blobs=Blobs(settings.blob_url),
        doorbell=Doorbell(settings),
        streams=Streams(settings.redis_url),
        door=Door(database),
        meters=Meters(settings, database),
        rates=Rates(settings.redis_url),
        watches=Watches(database),
        dialer=Dialer(Reach.parse(settings.allow_addresses, http=settings.allow_http)),
    )
