"""/v1/batches/{batch_id}/results and /events: what a batch brings, while it runs. Ours; OpenAI has no such paths."""

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, BinaryIO, Literal, cast

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.schema import Schema
from pydantic import Field

from service.actions.read_results import follow_results, read_results
from service.actions.snapshot_results import snapshot_results
from service.actions.watch_batch import watch_batch
from service.api.batches import BatchPath
from service.api.context import current_caller, current_parts, current_request
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.lasting import lasting
from service.api.sse import KEEP_ALIVE, event_stream, named_data
from service.channels.blobs import chunks_of
from service.contract.output_lines import result_line
from service.contract.progress_events import ProgressEvent
from service.contract.result_csv import csv_header, csv_rows
from service.contract.result_cursors import MAX_CURSOR_CHARACTERS
from service.contract.result_lines import ResultLine
from service.contract.result_table import table_row
from service.errors import BadRequest
from service.store.result_feed import Told

DEFAULT_LIMIT, MAX_LIMIT = 1000, 10_000
CURSOR, COMPLETE = "x-sluice-cursor", "x-sluice-complete"
JSONL, CSV, PARQUET = "application/jsonl", "text/csv", "application/vnd.apache.parquet"
COMPONENTS = "#/components/schemas/{model}"
CONTENT_TYPES = {"jsonl": JSONL, "csv": f"{CSV}; charset=utf-8", "parquet": PARQUET}

api = APIBlueprint("results", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class ResultsQuery(Described):
    """Which results, and how they are told.

    cursor: what a line, or the header x-sluice-cursor, said; the answer goes on right after it. None: from the start.
    limit: lines of a page; 1000 unless told, and of Parquet all that there are. follow: stay, and tell every line
    as it ends until all have been told; for JSON lines and CSV. format: goes before the header Accept; JSON lines
    unless told.
    """

    cursor: str | None = Field(default=None, max_length=MAX_CURSOR_CHARACTERS)
    limit: int | None = Field(default=None, ge=1, le=MAX_LIMIT)
    follow: bool = False
    format: Literal["jsonl", "csv", "parquet"] | None = None


def _text(description: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "description": description}}


RESULTS: dict[str, Any] = {
    "description": "Lines in the order in which they were committed.",
    "headers": {
        CURSOR: _text("The cursor that asks for what comes after this page; not when following."),
        COMPLETE: _text("`true` where nothing will ever come after this page; not when following."),
    },
    "content": {
        JSONL: _text(
            "Each line is a `ResultLine`. A follower skips empty lines: they keep the connection alive."
        ),
        CSV: _text("One row for each line, after a row of names where no cursor was given."),
        PARQUET: {"schema": {"type": "string", "format": "binary"}},
    },
}
EVENTS: dict[str, Any] = {
    "content": {
        "text/event-stream": _text(
            "`event: progress` while the batch runs, `event: ended` at last; `data` is a `ProgressEvent`."
        )
    }
}


@api.get("/batches/<batch_id>/results", responses={200: RESULTS})
def results(path: BatchPath, query: ResultsQuery) -> Response:
    """What of a batch has ended, while the rest still runs: a page of it, or with `follow` all of it as it comes."""
    wanted = query.format or _accepted()
    if wanted == "parquet":
        return _parquet(path.batch_id, query)
    told = _lines if wanted == "jsonl" else _rows(with_header=not query.cursor)
    if query.follow:
        return _followed(path.batch_id, query, told, wanted)
    page = read_results(
        current_parts(),
        current_caller(),
        path.batch_id,
        cursor=query.cursor,
        limit=query.limit or DEFAULT_LIMIT,
    )
    return _page(told(page.chunks), wanted, page.cursor, page.is_complete)


@api.get("/batches/<batch_id>/events", responses={200: EVENTS})
def events(path: BatchPath) -> Response:
    """How far a batch is, told as it moves: counts, tokens, rates of the last seconds, and when it may be done."""
    seen = watch_batch(current_parts(), current_caller(), path.batch_id)
    return event_stream(lasting(_events(seen), keep_alive=KEEP_ALIVE))


def _followed(
    batch_id: str, query: ResultsQuery, told: Callable[..., Generator[bytes, None, None]], wanted: str
) -> Response:
    if query.limit is not None:
        raise BadRequest("A follower gets every line: leave `limit` out.", param="limit")
    chunks = follow_results(current_parts(), current_caller(), batch_id, cursor=query.cursor)
    keep_alive = b"\n" if wanted == "jsonl" else b"\r\n"
    response = Response(lasting(told(chunks), keep_alive=keep_alive), content_type=CONTENT_TYPES[wanted])
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _parquet(batch_id: str, query: ResultsQuery) -> Response:
    if query.follow:
        raise BadRequest(
            "Parquet cannot be followed: take jsonl or csv, or leave `follow` out.", param="follow"
        )
    spool_dir = current_request().spool_dir
    spooled = cast("BinaryIO", tempfile.TemporaryFile(dir=spool_dir))  # noqa: SIM115 - closed with the response
    try:
        snapshot = snapshot_results(
            current_parts(), current_caller(), batch_id, spooled, cursor=query.cursor, limit=query.limit
        )
        num_bytes = spooled.tell()
    except BaseException:
        spooled.close()
        raise
    spooled.seek(0)
    response = _page(chunks_of(spooled), "parquet", snapshot.cursor, snapshot.is_complete)
    response.call_on_close(spooled.close)
    response.content_length = num_bytes
    response.headers.set("Content-Disposition", "attachment", filename=f"{batch_id}.parquet")
    return response


def _page(body: Iterable[bytes], wanted: str, cursor: str, is_complete: bool) -> Response:
    response = Response(body, content_type=CONTENT_TYPES[wanted])
    response.headers[CURSOR] = cursor
    response.headers[COMPLETE] = "true" if is_complete else "false"
    return response


def _lines(chunks: Iterator[list[Told]]) -> Generator[bytes, None, None]:
    for chunk in chunks:
        yield b"".join(result_line(told.job, str(told.cursor)) for told in chunk)


def _rows(*, with_header: bool) -> Callable[[Iterator[list[Told]]], Generator[bytes, None, None]]:
    def told(chunks: Iterator[list[Told]]) -> Generator[bytes, None, None]:
        if with_header:
            yield csv_header()
        for chunk in chunks:
            yield csv_rows(table_row(told.job, str(told.cursor)) for told in chunk)

    return told


def _events(seen: Iterator[ProgressEvent | None]) -> Generator[bytes, None, None]:
    for event in seen:
        if event is None:
            yield b""
        else:
            yield named_data("ended" if event.has_ended else "progress", event.model_dump())


def _name_the_lines() -> None:
    """What a stream is made of, which the library cannot be told: it describes whole answers."""
    for model in (ResultLine, ProgressEvent):
        schema = model.model_json_schema(ref_template=COMPONENTS, mode="serialization")
        for name, described in {**schema.pop("$defs", {}), model.__name__: schema}.items():
            api.components_schemas.setdefault(name, Schema.model_validate(described))


def _accepted() -> str:
    """What the header Accept prefers of what we have."""
    best = request.accept_mimetypes.best_match([JSONL, CSV, PARQUET], default=JSONL)
    return {CSV: "csv", PARQUET: "parquet"}.get(best, "jsonl")


_name_the_lines()
