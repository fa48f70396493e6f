"""What one process remembers of those who came in: who holds which key, and when each was last used."""

import threading
import time

from service.actions.remembered import Remembered
from service.contract.callers import Caller
from service.errors import SluiceError
from service.store import keys
from service.store.database import Database

# A revoked key must not work for a second longer, in any process.
KNOWN_SECONDS = 0.5
USED_AGAIN_SECONDS = 60.0


class Door:
    """callers: who holds a secret, by its digest. uses: which keys are in use."""

    def __init__(self, database: Database) -> None:
        self.callers: Remembered[bytes, Caller] = Remembered(KNOWN_SECONDS)
        self.uses = KeyUses(database)
        self._database = database
        self._has_keys = False

    def has_keys(self) -> bool:
        """Whether a key was ever made. Once that is so it stays so; that it is not is asked every time."""
        if not self._has_keys:
            with self._database.reading() as db:
                self._has_keys = keys.any_exist(db)
        return self._has_keys


class KeyUses:
    """Writes down that keys are in use, each at most once a minute, on a thread of its own: no request waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: dict[str, float] = {}
        self._unwritten: set[str] = set()
        self._writer: threading.Thread | None = None
        self._lock = threading.Lock()

    def note(self, key_id: str) -> None:
        """This key was used just now."""
        now = time.monotonic()
        if now < self._due.get(key_id, 0.0):
            return
        with self._lock:
            self._due[key_id] = now + USED_AGAIN_SECONDS
            self._unwritten.add(key_id)
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=self._write, name="key-uses", daemon=True)
                self._writer.start()

    def close(self) -> None:
        """Wait for what is being written."""
        with self._lock:
            writer = self._writer
        if writer is not None:
            writer.join()

    def _write(self) -> None:
        while used := self._take():
            try:
                with self._database.transaction() as db:
                    keys.mark_used(db, used)
            except SluiceError:
                # The database is busy or away. A key that is still in use says so again in a minute.
                return

    def _take(self) -> set[str]:
        with self._lock:
            used, self._unwritten = self._unwritten, set()
            if not used:
                self._writer = None
            return used
