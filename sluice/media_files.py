"""Local media on its way to a server: inside the request while small, uploaded once each where not."""

import base64
import mimetypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from service.errors import MediaUnavailable

if TYPE_CHECKING:
    from sluice.client import Client

KINDS = ("image", "video", "audio")
# A request's body is held in memory on its way; larger files travel as uploads.
INLINE_BYTES = 8 << 20


class Uploads(Protocol):
    """What is needed of a client."""

    def upload(self, content: Any, filename: str, purpose: str) -> dict[str, Any]:
        """Send a file."""


@dataclass(frozen=True)
class PassingUploads:
    """Uploads that the server forgets after so many seconds."""

    client: "Client"
    seconds: int

    def upload(self, content: BinaryIO, filename: str, purpose: str) -> dict[str, Any]:
        """Send a file."""
        return self.client.upload(content, filename, purpose, expires_seconds=self.seconds)


class Uploader:
    """Uploads each file once and remembers its id."""

    def __init__(self, client: Uploads, on_upload: Callable[[Path], None] = lambda path: None) -> None:
        self._client = client
        self._on_upload = on_upload
        self._ids: dict[Path, str] = {}

    def id_of(self, path: Path) -> str:
        """The uploaded file's id; MediaUnavailable if there is no such file."""
        path = path.resolve()
        if path not in self._ids:
            self._on_upload(path)
            with readable(path).open("rb") as content:
                self._ids[path] = str(self._client.upload(content, path.name, "user_data")["id"])
        return self._ids[path]

    def __len__(self) -> int:
        return len(self._ids)


def readable(path: Path) -> Path:
    """The path itself, if it is a file that we can read."""
    try:
        if path.is_file():
            path.open("rb").close()
            return path
    except OSError as error:
        raise MediaUnavailable(f"{path} cannot be read ({error.strerror}).") from None
    raise MediaUnavailable(f"There is no file {path}.")


def content_parts(paths: Iterable[tuple[str, Path]], text: str, uploader: Uploader) -> list[dict[str, Any]]:
    """The content of a user's message: media as (kind, path) in order, then the words."""
    parts: list[dict[str, Any]] = []
    for kind, path in paths:
        field = f"{kind}_url"
        parts.append({"type": field, field: {"url": _url(kind, path, uploader)}})
    return [*parts, {"type": "text", "text": text}]


def _url(kind: str, path: Path, uploader: Uploader) -> str:
    if readable(path).stat().st_size > INLINE_BYTES:
        return uploader.id_of(path)
    guessed = mimetypes.guess_type(path.name)[0] or ""
    mime = (
        guessed
        if guessed.startswith(f"{kind}/")
        else f"{kind}/{path.suffix.lstrip('.').lower() or 'unknown'}"
    )
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
