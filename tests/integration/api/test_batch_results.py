"""/v1/batches/{id}/results and /events over HTTP: formats, headers, refusals."""

import csv
import io
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from pyarrow import parquet

from service.actions.close_batches import close_batches
from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.contract.jobs import ClaimedJob, Outcome, Succeeded, Usage
from service.contract.result_table import COLUMNS
from service.store import jobs


def answer(job: ClaimedJob) -> Outcome:
    body = {"choices": [{"message": {"content": f"=Answer {job.line_no}"}, "finish_reason": "stop"}]}
    return Succeeded(job, body, Usage(3, 2, text_tokens=3), {"device": "cpu"})


def work(parts: Parts, worker: str, limit: int) -> None:
    with parts.database.transaction() as db:
        claimed = jobs.claim(db, models=["tiny"], owner=worker, limit=limit)
        recorded = jobs.finish(db, [answer(job) for job in claimed], worker)
    close_batches(parts, recorded.batches)


@pytest.fixture
def batch(parts: Parts, http: FlaskClient, ready: str) -> str:
    """A batch of five lines, three of which have an answer and one of which was refused."""
    lines = b"".join(b'{"id": "p%d", "prompt": "Hi"}\n' % number for number in range(4)) + b"{bad\n"
    made = http.post("/v1/jobs", data=lines, content_type="application/jsonl")
    batch_id = str(orjson.loads(made.data)["id"])
    ingest_manifest(parts, batch_id)
    work(parts, ready, 3)
    return batch_id


def json_lines(data: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in data.splitlines() if line]


def test_a_page_is_json_lines_with_a_cursor_after_each_and_at_the_end(http: FlaskClient, batch: str) -> None:
    page = http.get(f"/v1/batches/{batch}/results?limit=3")
    rest = http.get(f"/v1/batches/{batch}/results", query_string={"cursor": page.headers["x-sluice-cursor"]})

    assert (page.status_code, page.content_type) == (200, "application/jsonl")
    first, second = json_lines(page.data), json_lines(rest.data)
    assert sorted(line["line"] for line in [*first, *second]) == [1, 2, 3, 5]
    assert first[-1]["cursor"] == page.headers["x-sluice-cursor"]
    assert page.headers["x-sluice-complete"] == rest.headers["x-sluice-complete"] == "false"
    answered = next(line for line in [*first, *second] if line["line"] == 1)
    assert (answered["custom_id"], answered["status"], answered["provenance"]) == (
        "p0",
        "succeeded",
        {"device": "cpu"},
    )
    assert answered["usage"]["total_tokens"] == 5
    refused = next(line for line in [*first, *second] if line["line"] == 5)
    assert refused["response"]["status_code"] == 400


def test_the_last_page_says_that_it_is_the_last(
    parts: Parts, http: FlaskClient, batch: str, ready: str
) -> None:
    work(parts, ready, 9)
    assert http.get(f"/v1/batches/{batch}/results?limit=4").headers["x-sluice-complete"] == "false"
    assert http.get(f"/v1/batches/{batch}/results").headers["x-sluice-complete"] == "true"


def test_csv_has_names_once_and_no_formulas(http: FlaskClient, batch: str) -> None:
    page = http.get(f"/v1/batches/{batch}/results?limit=2", headers={"Accept": "text/csv"})
    cursor = page.headers["x-sluice-cursor"]
    rest = http.get(f"/v1/batches/{batch}/results", query_string={"format": "csv", "cursor": cursor})

    assert page.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO((page.data + rest.data).decode(), newline="")))
    assert len(rows) == 4
    assert list(rows[0]) == list(COLUMNS)
    assert {row["text"] for row in rows} == {"'=Answer 1", "'=Answer 2", "'=Answer 3", ""}


def test_parquet_is_a_file_of_everything_so_far(http: FlaskClient, batch: str) -> None:
    accepts = {"Accept": "application/vnd.apache.parquet"}
    with http.get(f"/v1/batches/{batch}/results", headers=accepts) as file:
        assert file.content_type == "application/vnd.apache.parquet"
        assert file.headers["Content-Disposition"] == f"attachment; filename={batch}.parquet"
        table = parquet.read_table(io.BytesIO(file.data))
    assert (table.num_rows, table.column_names) == (4, list(COLUMNS))
    assert sorted(text for text in table.column("text").to_pylist() if text)[0] == "=Answer 1"


@pytest.mark.parametrize("wanted", ["jsonl", "csv"])
def test_a_follower_of_a_finished_batch_gets_all_of_it(
    parts: Parts, http: FlaskClient, batch: str, ready: str, wanted: str
) -> None:
    work(parts, ready, 9)

    told = http.get(f"/v1/batches/{batch}/results?follow=true&format={wanted}")

    if wanted == "jsonl":
        assert sorted(line["line"] for line in json_lines(told.data)) == [1, 2, 3, 4, 5]
    else:
        assert len(list(csv.DictReader(io.StringIO(told.data.decode(), newline="")))) == 5


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("cursor=nonsense", "cursor"),
        ("follow=true&cursor=1.", "cursor"),
        ("format=parquet&cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("format=xml", "format"),
        ("follow=true&limit=5", "limit"),
        ("follow=true&format=parquet", "follow"),
        ("follow=perhaps", "follow"),
    ],
)
def test_what_cannot_be_is_refused_by_name(http: FlaskClient, batch: str, query: str, param: str) -> None:
    refused = http.get(f"/v1/batches/{batch}/results?{query}")

    assert refused.status_code == 400
    assert orjson.loads(refused.data)["error"]["param"] == param


@pytest.mark.parametrize(
    "path", ["results", "results?follow=true", "results?format=csv", "results?format=parquet", "events"]
)
def test_another_tenants_batch_is_not_there(
    parts: Parts, http: FlaskClient, batch: str, make_key: Callable[[str], dict[str, Any]], path: str
) -> None:
    theirs = make_key("somebody")
    for batch_id in (batch, "batch_" + "0" * 24, "x"):
        answer = http.get(f"/v1/batches/{batch_id}/{path}", headers=theirs)
        assert (answer.status_code, orjson.loads(answer.data)["error"]["code"]) == (404, "batch_not_found")


def test_events_end_with_the_batch(parts: Parts, http: FlaskClient, batch: str, ready: str) -> None:
    work(parts, ready, 9)
    export_results(parts, batch)

    told = http.get(f"/v1/batches/{batch}/events")

    assert told.mimetype == "text/event-stream"
    (event,) = told.data.decode().strip().split("\n\n")
    name, data = event.split("\n")
    assert name == "event: ended"
    said = orjson.loads(data.removeprefix("data: "))
    assert (said["batch_id"], said["status"], said["unfinished"]) == (batch, "completed", 0)
    assert said["request_counts"]["completed"] == 4
    assert said["usage"]["total_tokens"] == 20
