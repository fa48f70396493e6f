"""How we read requests: strict JSON, uploads to disk, and a size limit for each."""

import tempfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from flask import Request
from werkzeug.wsgi import get_input_stream

from service.api.encodings import decoded
from service.contract.strict_json import parse_object
from service.errors import UnsupportedBody

READ_BYTES = 1 << 16


class ApiRequest(Request):
    """A request whose JSON is refused when two readers could read it differently, and whose files go to disk."""

    spool_dir: Path | None = None

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as one JSON object; nothing at all is an empty one.

        Always strict: `force` and `silent` are the framework's, and change nothing.
        """
        # OpenAI's client names a type for its empty bodies too.
        if self.mimetype in ("", "application/json") and not self.raw_body():
            return {}
        if self.mimetype != "application/json":
            raise UnsupportedBody("This path takes application/json.")
        return parse_object(self.raw_body())

    def raw_body(self) -> bytes:
        """The whole body, decompressed; one over `max_content_length` is refused."""
        return self._body

    def body_stream(self) -> IO[bytes]:
        """The body as it arrives, decompressed, for those that are too large to hold."""
        return self.stream

    @cached_property
    def stream(self) -> IO[bytes]:
        """What the framework reads forms from, and we everything else."""
        raw = get_input_stream(self.environ, max_content_length=self.max_content_length)
        return decoded(raw, self.content_encoding, self.max_content_length)

    @cached_property
    def _body(self) -> bytes:
        # Not get_data(): it cuts a chunked body off at the limit, where read() refuses it.
        return b"".join(iter(lambda: self.stream.read(READ_BYTES), b""))

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        spooled = tempfile.TemporaryFile("rb+", dir=self.spool_dir)  # noqa: SIM115 - closed with the request
        self._spooled.append(spooled)
        return spooled

    def close(self) -> None:
        """Called by Flask at the end. An upload that broke off gives its disk space back now."""
        super().close()
        for spooled in self._spooled:
            # What did not fit on the disk does not fit now either, and closing tries again.
            with suppress(OSError):
                spooled.close()

    @cached_property
    def _spooled(self) -> list[IO[bytes]]:
        return []
