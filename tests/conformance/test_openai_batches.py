"""Files and batches, as the official client speaks them."""

import io
import json

import httpx
import openai
import pytest
from live_service import MODEL, Live, export, ingest
from openai import OpenAI

ENDPOINT = "/v1/chat/completions"


def line(custom_id: str, text: str, **body) -> dict:
    message = {"role": "user", "content": text}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": ENDPOINT,
        "body": {"model": MODEL, "messages": [message], **body},
    }


def manifest(*lines: dict | str) -> io.BytesIO:
    file = io.BytesIO("".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines).encode())
    file.name = "lines.jsonl"
    return file


def rows(client: OpenAI, file_id: str) -> list[dict]:
    return [json.loads(row) for row in client.files.content(file_id).text.splitlines()]


def test_a_file_can_be_uploaded_found_listed_read_and_deleted(client: OpenAI):
    sent = bytes(range(256)) * 3000
    file = client.files.create(file=("photo ü.png", sent), purpose="vision")
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        768_000,
        "photo ü.png",
        "vision",
        "processed",
    )
    assert client.files.retrieve(file.id) == file
    assert file.id in [listed.id for listed in client.files.list(purpose="vision")]
    response = client.files.content(file.id)
    assert response.content == sent
    assert response.response.headers["content-disposition"].startswith("attachment")
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_files_are_listed_page_by_page(client: OpenAI):
    made = [client.files.create(file=(f"{n}.bin", b"x"), purpose="user_data").id for n in range(5)]
    listed = [file.id for file in client.files.list(purpose="user_data", limit=2)]
    assert listed == made[::-1]
    assert [file.id for file in client.files.list(purpose="user_data", limit=2, order="asc")] == made


def test_a_batch_runs_to_completion_with_its_output_and_error_files(client: OpenAI, live: Live):
    lines = [line("a", "say first"), line("b", "fail"), "{not json}\n", line("c", "say third", max_tokens=5)]
    file = client.files.create(file=manifest(*lines), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={"project": "zoo"}
    )
    assert batch.status == "validating"
    ingest(live.parts, batch.id)
    export(live.parts, batch.id)
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert batch.metadata == {"project": "zoo"}
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        4,
        2,
        2,
    )
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens == 16
    good = {row["custom_id"]: row["response"]["body"] for row in rows(client, batch.output_file_id)}
    assert {key: body["choices"][0]["message"]["content"] for key, body in good.items()} == {
        "a": "first",
        "c": "third",
    }
    bad = rows(client, batch.error_file_id)
    assert sorted(row["response"]["status_code"] for row in bad) == [400, 400]
    assert next(iter(client.batches.list(limit=1))).id == batch.id


def test_a_batch_can_be_cancelled_and_keeps_what_it_has(client: OpenAI, live: Live):
    file = client.files.create(file=manifest(line("a", "say yes"), line("b", "stall")), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
    ingest(live.parts, batch.id)
    while client.batches.retrieve(batch.id).request_counts.completed < 1:
        pass
    assert client.batches.cancel(batch.id).status == "cancelling"
    export(live.parts, batch.id)
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "cancelled"
    assert [row["custom_id"] for row in rows(client, batch.output_file_id)] == ["a"]


def test_a_batch_of_an_unknown_file_or_endpoint_is_refused(client: OpenAI):
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-000", endpoint=ENDPOINT, completion_window="24h")
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id="file-000", endpoint="/v1/embeddings", completion_window="24h")
    assert refused.value.param == "endpoint"


def test_one_job_is_accepted_at_once_and_can_be_waited_for(raw: httpx.Client):
    accepted = raw.post("/v1/jobs", json={"messages": [{"role": "user", "content": "say done"}]})
    assert accepted.status_code == 202
    job = raw.get(accepted.headers["location"], params={"wait": 10}).json()
    assert job["status"] == "succeeded"
    assert job["response"]["choices"][0]["message"]["content"] == "done"


def test_json_lines_become_a_batch_at_once_with_the_options_of_the_query(raw: httpx.Client, live: Live):
    pictures = b'{"image": "/a.png"}\n{"image": "/b.png", "prompt": "say mine"}\n{"image": 5}\n'
    created = raw.post(
        "/v1/jobs",
        params={"prompt": "say ours", "priority": 3},
        content=pictures,
        headers={"Content-Type": "application/jsonl"},
    )
    assert created.status_code == 200
    batch = created.json()
    assert batch["priority"] == 3
    ingest(live.parts, batch["id"])
    export(live.parts, batch["id"])
    page = raw.get("/v1/jobs", params={"batch_id": batch["id"]}).json()["data"]
    assert [job["status"] for job in page] == ["succeeded", "succeeded", "failed"]
    answers = [job["response"]["choices"][0]["message"]["content"] for job in page[:2]]
    assert answers == ["ours", "mine"]
    [failed] = raw.get("/v1/jobs", params={"batch_id": batch["id"], "state": "failed"}).json()["data"]
    assert failed["line"] == 3
    assert failed["error"]["param"] == "image"


def test_a_waiting_job_can_be_cancelled(raw: httpx.Client):
    job = raw.post("/v1/jobs", json={"messages": [{"role": "user", "content": "stall"}]}).json()
    raw.post(f"/v1/jobs/{job['id']}/cancel")
    assert raw.get(f"/v1/jobs/{job['id']}", params={"wait": 10}).json()["status"] == "cancelled"


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/jobs"])
def test_the_same_idempotency_key_gives_the_same_batch(client: OpenAI, raw: httpx.Client, path: str):
    headers = {"Idempotency-Key": f"key for {path}"}
    if path == "/v1/batches":
        file = client.files.create(file=manifest(line("a", "say yes")), purpose="batch")
        options = {"json": {"input_file_id": file.id, "endpoint": ENDPOINT, "completion_window": "24h"}}
        other = {"json": {"input_file_id": file.id, "endpoint": ENDPOINT, "completion_window": "48h"}}
    else:
        kind = {"Content-Type": "application/jsonl"}
        options = {"content": b'{"prompt": "say yes"}\n', "headers": kind}
        other = {"content": b'{"prompt": "say no"}\n', "headers": kind}
    first, second, third = (
        raw.post(path, **(wanted | {"headers": headers | wanted.get("headers", {})}))
        for wanted in (options, options, other)
    )
    assert first.json()["id"] == second.json()["id"]
    assert third.status_code == 422


def test_a_job_that_is_sent_again_with_its_idempotency_key_is_one_job(raw: httpx.Client):
    body = {"messages": [{"role": "user", "content": "say yes"}]}
    first, again, other = (
        raw.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}).json()["id"]
        for key in ("one job", "one job", "another job")
    )
    assert first == again != other
