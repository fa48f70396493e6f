"""Chat over plain HTTP: the bytes of a stream, and what happens to a job whose client leaves."""

import json
import socket
import time

import httpx
import pytest
from live_service import MODEL, Live

PATH = "/v1/chat/completions"


def body_of(text: str, **fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def test_every_event_of_a_stream_is_one_data_line_and_the_last_says_done(raw: httpx.Client):
    with raw.stream("POST", PATH, json=body_of("say a\tb 東京\u2028end", stream=True)) as response:
        told = response.read()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    events = told.decode().split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    assert all(event.startswith("data: {") and "\n" not in event for event in events)
    contents = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(contents) == "a\tb 東京\u2028end"


def test_a_whole_answer_is_the_reply_that_sql_holds(raw: httpx.Client, live: Live):
    reply = raw.post(PATH, json=body_of("say hello")).json()
    job = raw.get(f"/v1/jobs/job_{reply['id'].removeprefix('chatcmpl-')}").json()
    assert job["response"] == reply


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot_within_six_seconds(live: Live, stream: bool):
    before = len(live.worker.cancelled)
    payload = json.dumps(body_of("stall", stream=stream)).encode()
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n".encode()
            + payload
        )
        if stream:
            assert b"200 OK" in connection.recv(65536)
        else:
            time.sleep(0.5)
    left_at = time.monotonic()
    while len(live.worker.cancelled) == before:
        assert time.monotonic() - left_at < 6
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"model": "a", "model": "b"}', "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b"", "application/json", 400, "missing_required_parameter"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "application/json", 400, "missing_required_parameter"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_openais_shape(raw, content, content_type, status, code):
    response = raw.post(PATH, content=content, headers={"Content-Type": content_type})
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert {"message", "type", "param", "code"} <= error.keys()
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("encoding", "status", "code"), [("gzip", 400, "invalid_encoding"), ("br", 415, "unsupported_encoding")]
)
def test_a_body_that_is_not_encoded_as_it_says_is_refused_rather_than_misread(
    raw: httpx.Client, encoding: str, status: int, code: str
):
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    response = raw.post(PATH, content=b"x", headers=headers)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


def test_a_chunked_body_is_read_like_any_other(raw: httpx.Client):
    payload = json.dumps(body_of("say chunks")).encode()
    response = raw.post(
        PATH, content=iter([payload[:10], payload[10:]]), headers={"Content-Type": "application/json"}
    )
    assert response.json()["choices"][0]["message"]["content"] == "chunks"


def test_a_stream_whose_job_is_cancelled_ends_with_the_error_and_is_not_done(raw: httpx.Client):
    with raw.stream("POST", PATH, json=body_of("stall", stream=True)) as response:
        events = response.iter_lines()
        job_id = json.loads(next(events)[6:])["id"].replace("chatcmpl-", "job_")
        assert raw.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
        told = [line for line in events if line]
    assert json.loads(told[-1][6:])["error"]["code"] == "cancelled"
    assert "data: [DONE]" not in told
