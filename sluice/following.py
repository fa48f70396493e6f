"""A batch's results while it runs, across connections that are cut: each line once."""

import csv
import io
import json
import sys
import time
from collections.abc import Iterator

import httpx

from service.errors import SluiceError
from sluice.client import Client

PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 1.0
# What a server, or a proxy before it, says while it cannot: nobody there is one of them.
PASSING = frozenset({429, 502, 503, 504})


def follow_results(
    client: Client, batch_id: str, wanted: str, *, patience_seconds: float = PATIENCE_SECONDS
) -> Iterator[bytes]:
    """Whole lines as they end, until all have been told. wanted: jsonl or csv.

    A cut connection is opened again after the last whole line, until nothing was heard for `patience_seconds`.
    """
    cursor, gives_up_at = "", None
    has_names = False
    while True:
        try:
            with client.results(batch_id, wanted, cursor=cursor, follow=True) as response:
                for line, after in _READERS[wanted](response):
                    gives_up_at = None
                    if line and (after or not has_names):
                        yield line
                        has_names = True
                    cursor = after or cursor
            # The server ends a follower's stream, too, when it stops: only it knows whether that was all.
            if client.has_told_all(batch_id, cursor):
                return
        except SluiceError as error:
            now = time.monotonic()
            gives_up_at = gives_up_at or now + patience_seconds
            if error.status not in PASSING or now > gives_up_at:
                raise
        time.sleep(RETRY_SECONDS)


def read_results(client: Client, batch_id: str, wanted: str) -> Iterator[bytes]:
    """What has ended by now, in pieces. wanted: jsonl, csv or parquet, which is one page however long."""
    cursor = ""
    while True:
        with client.results(batch_id, wanted, cursor=cursor) as response:
            yield from response.iter_bytes(1 << 20)
            reached = response.headers["x-sluice-cursor"]
            if wanted == "parquet" or response.headers["x-sluice-complete"] == "true" or reached == cursor:
                return
        cursor = reached


def _json_lines(response: httpx.Response) -> Iterator[tuple[bytes, str]]:
    """Whole lines, and the cursor of each; nothing, as a sign of life."""
    for line in _ended_lines(response):
        if line.strip():
            yield line, json.loads(line)["cursor"]
        else:
            yield b"", ""


def _csv_rows(response: httpx.Response) -> Iterator[tuple[bytes, str]]:
    """Whole rows, and the cursor of each; the row of names has none. Nothing, as a sign of life."""
    csv.field_size_limit(sys.maxsize)
    # Ended by \n alone is not the end of a row: the reader asks for more while a quoted cell is open.
    for row in csv.reader(line.decode() for line in _ended_lines(response)):
        if not row:
            yield b"", ""
        else:
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\r\n").writerow(row)
            yield text.getvalue().encode(), "" if row[-1] == "cursor" else row[-1]


def _ended_lines(response: httpx.Response) -> Iterator[bytes]:
    rest = b""
    for piece in response.iter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"


_READERS = {"jsonl": _json_lines, "csv": _csv_rows}
