"""Results as tables: one schema for whatever happened, and cells that no spreadsheet runs."""

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.ended_jobs import EndedJob
from service.contract.jobs import Usage
from service.contract.lifecycle import TERMINAL, JobState
from service.contract.result_csv import csv_header, csv_rows, shielded
from service.contract.result_table import COLUMNS, table_row

ERROR = b'{"message":"No.","type":"t","param":"model","code":"bad","retryable":true,"hint":"Change it.","status":400}'


def reply(*texts: str | None, **message: object) -> bytes:
    choices = [{"message": {"content": text, **message}, "finish_reason": "stop"} for text in texts]
    return orjson.dumps({"choices": choices})


def job(state: JobState, body: bytes | None = None, custom_id: str | None = "a") -> EndedJob:
    usage = Usage(7, 3, text_tokens=3, image_tokens=4, cached_tokens=2)
    return EndedJob(12, 7, custom_id, state, "tiny", 2, 5.25, body, b'{"device_seconds":0.5}', usage)


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_every_ending_has_the_same_columns_and_types(state: JobState) -> None:
    body = {JobState.SUCCEEDED: reply("Hi"), JobState.FAILED: ERROR, JobState.DEAD: ERROR}.get(state)

    row = table_row(job(state, body), "1.5")

    assert list(row) == list(COLUMNS)
    for name, kind in COLUMNS.items():
        assert row[name] is None or type(row[name]) is kind, name
    assert (row["status"], row["job_id"], row["line"], row["cursor"]) == (state.value, "job_12", 7, "1.5")
    assert (row["text"] is None) == (state is not JobState.SUCCEEDED)
    assert (row["error_code"] is None) == (state is JobState.SUCCEEDED)


def test_a_reply_is_told_with_its_tokens() -> None:
    row = table_row(job(JobState.SUCCEEDED, reply("Hi")), "")

    assert (row["text"], row["finish_reason"], row["all_texts"], row["device_seconds"]) == (
        "Hi",
        "stop",
        None,
        0.5,
    )
    assert (row["prompt_tokens"], row["image_tokens"], row["cached_tokens"]) == (7, 4, 2)


def test_several_answers_and_tool_calls_are_not_lost() -> None:
    row = table_row(job(JobState.SUCCEEDED, reply("One", "Two")), "")
    assert (row["text"], row["all_texts"]) == ("One", '["One","Two"]')
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    row = table_row(job(JobState.SUCCEEDED, reply(None, tool_calls=calls)), "")
    assert (row["text"], row["tool_calls"]) == (None, orjson.dumps(calls).decode())


def test_a_failure_says_what_and_what_to_do() -> None:
    row = table_row(job(JobState.FAILED, ERROR, custom_id=None), "")

    told = [row[name] for name in ("custom_id", "error_code", "error_message", "retryable", "hint")]
    assert told == ["line-7", "bad", "No.", True, "Change it."]
    assert table_row(job(JobState.CANCELLED), "")["error_code"] == "batch_cancelled"


NASTY = [
    '=HYPERLINK("http://example.invalid","x")',
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'quoted'",
]


@pytest.mark.parametrize("text", NASTY)
def test_no_cell_is_a_formula(text: str) -> None:
    cells = read(csv_header() + csv_rows([table_row(job(JobState.SUCCEEDED, reply(text), text), "")]))[0]

    for name in ("text", "custom_id"):
        assert cells[name] == f"'{text}"
    assert shielded("Plain, with = in it") == "Plain, with = in it"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_was_answered_is_read_back(text: str, name: str) -> None:
    rows = [table_row(job(JobState.SUCCEEDED, reply(text), name), "1.1,x.2")] * 2

    cells = read(csv_header() + csv_rows(rows))

    assert len(cells) == 2
    for row in cells:
        assert [row[column].removeprefix("'") for column in ("text", "custom_id")] == [text, name]


def test_numbers_and_truth_are_plain_in_csv() -> None:
    cells = read(csv_header() + csv_rows([table_row(job(JobState.FAILED, ERROR), "")]))[0]

    assert (cells["line"], cells["retryable"], cells["finished_at"], cells["text"]) == (
        "7",
        "true",
        "5.25",
        "",
    )
