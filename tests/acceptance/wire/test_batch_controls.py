"""A running batch obeys: it pauses and goes on, stops at its budget, and what it did not answer is tried again."""

import json
import time
from collections.abc import Iterable
from typing import Any

import httpx
import openai
from front_door import sluice, wait_for
from openai.types import Batch
from wire_server import Wire

NUM_LINES = 240


def submit(cats: httpx.Client, lines: Iterable[dict[str, Any]], **options: int) -> str:
    manifest = "".join(json.dumps(line) + "\n" for line in lines)
    made = cats.post(
        "/v1/jobs", content=manifest, params=options, headers={"Content-Type": "application/jsonl"}
    )
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


def prompts(number: int) -> list[dict[str, Any]]:
    return [{"id": f"p{n}", "prompt": f"Say {n}.", "max_tokens": 12} for n in range(number)]


def control(client: openai.OpenAI, batch_id: str, verb: str, **body: Any) -> Batch:
    """What OpenAI's client has no method for, it sends all the same, and reads the answer as its own batch."""
    return client.post(f"/batches/{batch_id}{verb}", body=body or None, cast_to=Batch)


def ended(client: openai.OpenAI, batch_id: str) -> Batch:
    def batch() -> Batch | None:
        seen = client.batches.retrieve(batch_id)
        return seen if seen.status in ("completed", "cancelled", "failed", "expired") else None

    found = wait_for(batch)
    assert isinstance(found, Batch)
    return found


def done(client: openai.OpenAI, batch_id: str) -> int:
    counts = client.batches.retrieve(batch_id).request_counts
    assert counts is not None
    return counts.completed


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()] if file_id else []


def ids_of(lines: list[dict[str, Any]]) -> list[str]:
    return sorted(line["custom_id"] for line in lines)


def test_a_running_batch_pauses_and_goes_on_and_every_line_is_answered_once(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    batch_id = submit(cats, prompts(NUM_LINES))
    wait_for(lambda: done(client, batch_id) > 0)

    paused = control(client, batch_id, "/pause")
    assert (paused.status, paused.model_extra is not None) == ("in_progress", True)
    wait_for(lambda: not cats.get(f"/v1/jobs?batch_id={batch_id}&state=running").json()["data"])
    before = done(client, batch_id)
    time.sleep(1.5)
    assert done(client, batch_id) == before < NUM_LINES
    held = cats.get(f"/v1/jobs?batch_id={batch_id}&state=held&limit=1000").json()["data"]
    assert len(held) == NUM_LINES - before

    control(client, batch_id, "/resume")
    assert ended(client, batch_id).status == "completed"
    output = lines_of(client, client.batches.retrieve(batch_id).output_file_id)
    assert ids_of(output) == ids_of([{"custom_id": f"p{n}"} for n in range(NUM_LINES)])


def test_a_batch_stops_at_its_budget_and_a_retry_answers_the_rest(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    parent = ended(client, submit(cats, prompts(NUM_LINES), token_budget=300))

    assert parent.status == "cancelled"
    assert parent.errors is not None
    assert parent.errors.data is not None
    assert parent.errors.data[0].code == "token_budget_reached"
    assert parent.usage is not None
    assert parent.usage.total_tokens >= 300
    answered = lines_of(client, parent.output_file_id)
    stopped = lines_of(client, parent.error_file_id)
    assert len(answered) + len(stopped) == NUM_LINES
    assert {line["error"]["code"] for line in stopped} == {"token_budget_reached"}

    child = ended(client, control(client, parent.id, "/retry").id)
    assert child.status == "completed"
    assert child.to_dict()["retry_of"] == parent.id
    assert ids_of(lines_of(client, child.output_file_id)) == ids_of(stopped)


def test_failed_lines_are_tried_again_and_their_own_retry_too(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    broken = {"id": "broken", "prompt": "What is this?", "image": "data:image/png;base64,AAAA"}
    unreadable = {"id": "typo", "promt": "Hello"}
    parent = ended(client, submit(cats, [*prompts(2), broken, unreadable]))
    assert ids_of(lines_of(client, parent.error_file_id)) == ["broken", "typo"]

    child = ended(client, control(client, parent.id, "/retry", states=["failed"]).id)
    errors = lines_of(client, child.error_file_id)
    assert ids_of(errors) == ["broken"]
    assert errors[0]["response"]["body"]["error"]["retryable"] is False
    again = ended(client, control(client, child.id, "/retry").id)
    assert ids_of(lines_of(client, again.error_file_id)) == ["broken"]
    refusal = cats.post(f"/v1/batches/{child.id}/retry", json={"only_retryable": True})
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "nothing_to_retry")


def test_the_other_tenant_cannot_touch_a_batch(
    client: openai.OpenAI, cats: httpx.Client, dogs: httpx.Client
) -> None:
    batch_id = submit(cats, prompts(1))
    for verb in ("", "/pause", "/resume", "/retry", "/cancel"):
        assert dogs.post(f"/v1/batches/{batch_id}{verb}", json={}).status_code == 404
    assert ended(client, batch_id).status == "completed"


def test_a_batch_is_steered_from_the_command_line(
    wire: Wire, client: openai.OpenAI, cats: httpx.Client
) -> None:
    def told(*arguments: str) -> str:
        done = sluice(*arguments, "--url", wire.url, "--key", wire.cats, cwd=wire.data_dir)
        assert done.returncode == 0, done.stderr
        return done.stdout

    batch_id = submit(cats, prompts(NUM_LINES))
    assert "paused" in told("pause", batch_id)
    assert "cancelling" in told("cancel", batch_id) or "cancelled" in told("status", batch_id)
    assert ended(client, batch_id).status == "cancelled"
    (child,) = json.loads(told("retry", batch_id, "--json"))
    assert child["retry_of"] == batch_id
    told("cancel", child["id"])
