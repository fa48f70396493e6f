"""Where media comes from: one open file for each way in which a request may name it."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias
from urllib.parse import unquote

from service.contract.media import MediaRef
from workers.media.contents import Content, content_of
from workers.media.data_uris import parse_data_uri
from workers.media.limits import MIB, MediaLimits
from workers.media.local_files import open_local
from workers.media.refusals import Refusal

# (tenant_id, file_id) -> the upload's local path or its open stream; raises our errors where there is none.
ReadUpload: TypeAlias = Callable[[str, str], BinaryIO | Path]

COPY_BYTES = 1 << 20


class Sources:
    """Opens what a MediaRef names, within the byte limits. Gives descriptors, which the caller closes."""

    def __init__(self, limits: MediaLimits, roots: Sequence[Path], read_upload: ReadUpload | None) -> None:
        self._limits = limits
        self._roots = tuple(roots)
        self._read_upload = read_upload

    def open(self, ref: MediaRef, tenant_id: str) -> int:
        """A readable descriptor at the medium's first byte. Raises Refusal, and what `read_upload` raises."""
        max_bytes = self._limits.max_bytes(ref.kind)
        fd = self._open(ref, tenant_id, max_bytes)
        size = os.fstat(fd).st_size
        if 0 < size <= max_bytes:
            return fd
        os.close(fd)
        if size:
            raise Refusal("media_too_many_bytes", limit_mib=max_bytes / MIB)
        raise Refusal("media_empty")

    def content(self, ref: MediaRef, tenant_id: str) -> Content | None:
        """What tells the medium's bytes; None for an address that may stand for others tomorrow. Raises as `open`."""
        path, is_fixed = _local_path(ref.url), ref.url[:5].lower() in ("data:", "file-")
        if path is None and not is_fixed:
            return None
        fd = self.open(ref, tenant_id)
        try:
            return content_of(fd, path)
        finally:
            os.close(fd)

    def _open(self, ref: MediaRef, tenant_id: str, max_bytes: int) -> int:
        url = ref.url
        if url[:5].lower() == "data:":
            return _in_memory([parse_data_uri(url, ref.kind, max_bytes)])
        if (path := _local_path(url)) is not None:
            return open_local(path, self._roots)
        if url.startswith("file-"):
            return self._open_upload(url, tenant_id, max_bytes)
        raise Refusal("media_url_unsupported")

    def head_of_upload(self, file_id: str, tenant_id: str, num_bytes: int) -> bytes:
        """The first bytes of an uploaded file. Raises as `open` does."""
        fd = self._open_upload(file_id, tenant_id, num_bytes)
        try:
            return os.pread(fd, num_bytes, 0)
        finally:
            os.close(fd)

    def _open_upload(self, file_id: str, tenant_id: str, max_bytes: int) -> int:
        if self._read_upload is None:
            raise Refusal("media_unavailable")
        try:
            upload = self._read_upload(tenant_id, file_id)
            if isinstance(upload, Path):
                return os.open(upload, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with upload:
                return _in_memory(_chunks(upload, max_bytes))
        except OSError:
            raise Refusal("media_unavailable") from None


def _local_path(url: str) -> str | None:
    """Where a local file lies; None if it is none. A `?` or `#` in a URL is part of the path: files have no query."""
    if url.startswith("/"):
        return url
    if url[:7].lower() != "file://":
        return None
    host, slash, path = url[len("file://") :].partition("/")
    if host not in ("", "localhost"):
        raise Refusal("media_forbidden")
    return slash + unquote(path)


def _chunks(stream: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """All of the stream, or one byte more than is allowed."""
    rest = max_bytes + 1
    while rest > 0 and (chunk := stream.read(min(COPY_BYTES, rest))):
        rest -= len(chunk)
        yield chunk


def _in_memory(chunks: Iterable[bytes]) -> int:
    """A file of these bytes that has no name and takes no disk."""
    fd = os.memfd_create("media", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", buffering=0, closefd=False) as file:
            for chunk in chunks:
                file.write(chunk)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
