"""Blobs: uploads, manifests and outputs, at one fsspec URL that all hosts share."""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from service.errors import NotFound, SluiceError, StorageFull, TooLarge, Unavailable

# Blobs are written here and then renamed, so that what a killed process leaves is found in one place.
_PARTIAL = "partial"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Blobs:
    """Immutable files by key. A key is seen whole or not at all, whoever is killed meanwhile."""

    def __init__(self, url: str) -> None:
        self._files, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(self._files, LocalFileSystem)

    def write(self, key: str, chunks: Iterable[bytes], max_bytes: int | None = None) -> int:
        """Store chunks under `key` and return their size in bytes once they are durable."""
        final = self._located(key)
        temporary = f"{self._root}/{_PARTIAL}/{uuid4().hex}"
        with _storage_errors(key):
            for path in (temporary, final):
                self._files.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                size = self._fill(temporary, chunks, max_bytes)
                self._publish(temporary, final)
            except BaseException:
                self._discard(temporary)
                raise
        return size

    def open(self, key: str, offset: int = 0) -> BinaryIO:
        """Open a blob for buffered reading from byte `offset`."""
        with _storage_errors(key):
            if self._is_local:
                stream: BinaryIO = open(self._located(key), "rb", buffering=1 << 18)  # noqa: SIM115
            else:
                stream = cast("BinaryIO", self._files.open(self._located(key), "rb"))
            if offset:
                stream.seek(offset)
            return stream

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Read bytes [offset, offset + length)."""
        with _storage_errors(key), self.open(key, offset) as stream:
            return stream.read(length)

    def path(self, key: str) -> Path | None:
        """Where the blob lies in the local file system, if it lies there."""
        return Path(self._located(key)) if self._is_local else None

    def delete(self, key: str) -> None:
        """Remove a blob; one that is gone already is fine."""
        with _storage_errors(key):
            self._discard(self._located(key))

    def size(self, key: str) -> int:
        """Size in bytes."""
        with _storage_errors(key):
            return int(self._files.size(self._located(key)))

    def sweep_partial(self, quiet_seconds: float = 3600.0) -> int:
        """Remove local writes that nobody has added to for a while: their writers are dead. Returns how many."""
        folder = Path(self._root) / _PARTIAL
        if not self._is_local or not folder.is_dir():
            return 0
        left = [path for path in folder.iterdir() if _seconds_since_write(path) > quiet_seconds]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def _located(self, key: str) -> str:
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise SluiceError("A blob's key is made of plain names and slashes.")
        return f"{self._root}/{key}"

    def _fill(self, temporary: str, chunks: Iterable[bytes], max_bytes: int | None) -> int:
        size = 0
        with self._writer(temporary) as stream:
            for chunk in chunks:
                size += len(chunk)
                if max_bytes is not None and size > max_bytes:
                    raise TooLarge(f"The upload is larger than the {max_bytes} bytes that are allowed here.")
                stream.write(chunk)
            if self._is_local:
                stream.flush()
                os.fsync(stream.fileno())
        return size

    def _writer(self, path: str) -> BinaryIO:
        if self._is_local:
            return open(path, "wb")
        return cast("BinaryIO", self._files.open(path, "wb"))

    def _publish(self, temporary: str, final: str) -> None:
        if not self._is_local:
            self._files.mv(temporary, final)
            return
        os.replace(temporary, final)
        folder = os.open(os.path.dirname(final), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _discard(self, path: str) -> None:
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return


def chunks_of(stream: BinaryIO, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
    """A stream's bytes, a chunk at a time."""
    while chunk := stream.read(chunk_bytes):
        yield chunk


def _seconds_since_write(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def _storage_errors(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(
            "The stored file is gone.", code="file_gone", hint="Upload it again, and name it by its new id."
        ) from None
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("The disk is full; nothing was stored.", retry_after=60) from error
        raise Unavailable("The blob store cannot be used right now.", code="blobs_unavailable") from error
