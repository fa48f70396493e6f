"""The lines of output and error files."""

import orjson
import pytest

from service.contract.ended_jobs import EndedJob
from service.contract.jobs import Usage
from service.contract.lifecycle import TERMINAL, JobState
from service.contract.output_lines import output_line, result_line
from service.contract.result_lines import ResultLine


def line(state: JobState, body: bytes | None, custom_id: str | None = "a") -> dict[str, object]:
    written = output_line(EndedJob(12, 7, custom_id, state, "tiny", body=body))
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    read: dict[str, object] = orjson.loads(written)
    return read


def test_a_reply_is_written_as_openai_writes_it() -> None:
    assert line(JobState.SUCCEEDED, b'{"id":"chatcmpl-12"}') == {
        "id": "batch_req_12",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req_12", "body": {"id": "chatcmpl-12"}},
        "error": None,
        "provenance": None,
    }


def test_a_failed_request_has_its_status_and_its_error_in_the_response() -> None:
    for state in (JobState.FAILED, JobState.DEAD):
        assert line(state, b'{"message":"No.","status":400}') == {
            "id": "batch_req_12",
            "custom_id": "a",
            "response": {
                "status_code": 400,
                "request_id": "req_12",
                "body": {"error": {"message": "No.", "line": 7}},
            },
            "error": None,
            "provenance": None,
        }


def test_what_never_ran_has_no_response() -> None:
    for state, code in ((JobState.CANCELLED, "batch_cancelled"), (JobState.EXPIRED, "batch_expired")):
        read = line(state, None)
        assert read["response"] is None
        assert isinstance(read["error"], dict)
        assert read["error"]["code"] == code
        assert read["error"]["retryable"] is True
        assert "retry" in read["error"]["hint"]


def test_a_line_that_the_budget_did_not_reach_says_so() -> None:
    job = EndedJob(12, 7, "a", JobState.CANCELLED, "tiny", is_over_budget=True)

    error = orjson.loads(output_line(job))["error"]

    assert (error["code"], error["retryable"]) == ("token_budget_reached", True)


def test_a_failure_that_may_pass_says_how_to_try_again_and_keeps_its_own_hint() -> None:
    for body, hint in ((b'{"retryable":true}', "retry"), (b'{"retryable":true,"hint":"Wait."}', "Wait.")):
        read = line(JobState.FAILED, body)
        assert isinstance(read["response"], dict)
        assert hint in read["response"]["body"]["error"]["hint"]
    final = line(JobState.FAILED, b'{"retryable":false}')
    assert isinstance(final["response"], dict)
    assert "hint" not in final["response"]["body"]["error"]


def test_a_line_without_an_id_goes_by_its_number() -> None:
    assert line(JobState.FAILED, b"{}", custom_id=None)["custom_id"] == "line-7"


def test_where_a_reply_came_from_stands_beside_it() -> None:
    job = EndedJob(12, 7, "a", JobState.SUCCEEDED, "tiny", body=b"{}", provenance=b'{"device":"cpu"}')

    assert orjson.loads(output_line(job))["provenance"] == {"device": "cpu"}


def test_a_line_that_is_followed_also_says_how_to_go_on() -> None:
    job = EndedJob(12, 7, "a", JobState.SUCCEEDED, "tiny", 2, 5.0, b"{}", usage=Usage(3, 4, text_tokens=3))

    read = orjson.loads(result_line(job, "1.5"))

    assert (read["line"], read["status"], read["model"], read["attempts"]) == (7, "succeeded", "tiny", 2)
    assert (read["finished_at"], read["cursor"], read["usage"]["total_tokens"]) == (5.0, "1.5", 7)
    assert orjson.loads(result_line(EndedJob(1, 2, None, JobState.FAILED, "tiny"), ""))["usage"] is None


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_every_line_is_what_the_api_describes(state: JobState) -> None:
    bodies = {
        JobState.SUCCEEDED: b'{"id":"chatcmpl-1"}',
        JobState.FAILED: b'{"status":400}',
        JobState.DEAD: b"{}",
    }
    job = EndedJob(1, 2, None, state, "tiny", 1, 5.0, bodies.get(state), b'{"device":"cpu"}', Usage(1, 1, 1))

    ResultLine.model_validate_json(result_line(job, "1.2"), strict=True)
