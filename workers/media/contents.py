"""What tells the bytes of a medium from all others, whatever their name is."""

import hashlib
import os
import time
from dataclasses import dataclass

# A file that was written so short a time ago may be written again without its times telling.
RESTLESS_NS = 20_000_000


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a medium by their SHA-256. path, stamp: of a local file, which may be written again."""

    sha256: bytes
    path: str | None = None
    stamp: tuple[int, ...] = ()
    read_at_ns: int = 0

    def has_changed(self) -> bool:
        """Whether the file may hold other bytes now than it did then."""
        if self.path is None:
            return False
        try:
            now = os.stat(self.path)
        except OSError:
            return True
        return _stamp(now) != self.stamp or now.st_mtime_ns > self.read_at_ns - RESTLESS_NS


def content_of(fd: int, path: str | None = None) -> Content:
    """Read an open medium from its first byte to its last. path: of a local file."""
    stamp, read_at_ns = _stamp(os.fstat(fd)), time.time_ns()
    with os.fdopen(fd, "rb", buffering=0, closefd=False) as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
    return Content(sha256, path, stamp, read_at_ns) if path is not None else Content(sha256)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
