"""What a manifest would come to, told without running it."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from front_door import sluice
from PIL import Image
from wire_server import Wire

UNKNOWN = "preflight_" + "0" * 24


def picture(size: int = 64) -> str:
    file = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def lines(*bodies: Any) -> bytes:
    return b"".join(body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n" for body in bodies)


def preflight(client: httpx.Client, manifest: bytes, **query: Any) -> dict[str, Any]:
    """A preflight of these lines, once it has ended."""
    headers = {"Content-Type": "application/jsonl"}
    accepted = client.post("/v1/preflight", content=manifest, params=query, headers=headers)
    assert accepted.status_code == 202, accepted.text
    ended = client.get(accepted.headers["Location"], params={"wait": 60})
    assert ended.status_code == 200, ended.text
    return dict(ended.json())


def spent(client: httpx.Client) -> Any:
    return client.get("/v1/usage").json()


MIXED = lines(
    {"id": "seen", "image": picture(), "prompt": "Describe this image.", "max_tokens": 5},
    {"id": "read", "prompt": "Hello", "max_tokens": 7, "n": 2},
    b"this is not JSON\n",
    {"id": "odd", "image": picture(), "promt": "Describe this image."},
    {"id": "gone", "image": "file-000000000000000000000000", "prompt": "Describe this image."},
    {"id": "elsewhere", "prompt": "Hello", "model": "nobody"},
)


def test_every_line_is_counted_and_each_fault_is_told_by_its_line(cats: httpx.Client) -> None:
    told = preflight(cats, MIXED)

    assert told["status"] == "completed", told
    assert {name: told["lines"][name] for name in ("total", "valid", "invalid")} == {
        "total": 6,
        "valid": 3,
        "invalid": 3,
    }
    faults = {error["code"]: error["lines"] for error in told["lines"]["errors"]}
    assert faults == {"invalid_json": [3], "unknown_field": [4], "model_not_found": [6]}
    assert told["media"] == {"image": 2, "video": 0, "audio": 0, "unknown": 0}
    assert list(told["models"].values()) == [3]
    assert told["sample"] == {"wanted": 256, "measured": 3, "failed": 1}
    (failed,) = told["failed_lines"]
    assert (failed["line"], failed["custom_id"], failed["error"]["code"]) == (5, "gone", "file_not_found")


def test_its_tokens_are_those_that_the_batch_would_use(client: openai.OpenAI, cats: httpx.Client) -> None:
    body = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": picture()}},
                    {"type": "text", "text": "Describe this image."},
                ],
            }
        ],
        "max_tokens": 3,
    }
    reply = client.chat.completions.create(model="default", **body)  # type: ignore[call-overload]
    told = preflight(cats, lines(*({"custom_id": f"c{n}", "body": body} for n in range(4))))

    prompt = told["tokens"]["prompt"]
    assert prompt["measured"] == prompt["estimated"] == 4 * reply.usage.prompt_tokens
    assert prompt["low"] == prompt["high"] == prompt["estimated"]
    assert (prompt["image"], prompt["text"]) == (4 * 64, prompt["estimated"] - 4 * 64)
    assert told["tokens"]["answer"]["upper_bound"] == 4 * 3
    assert told["estimated_seconds"] is not None or told["note"]


def test_a_sample_speaks_for_lines_that_nobody_measured(cats: httpx.Client) -> None:
    manifest = lines(*({"prompt": "Hello" + " you" * (n % 7)} for n in range(400)))
    told = preflight(cats, manifest, sample=40)
    whole = preflight(cats, manifest, sample=400)

    assert (told["lines"]["valid"], told["sample"]["measured"]) == (400, 40)
    prompt, truth = told["tokens"]["prompt"], whole["tokens"]["prompt"]["measured"]
    assert prompt["measured"] < prompt["low"] < prompt["high"]
    # The sample is drawn by the preflight's id: in one of many runs the truth lies outside the 95 of 100.
    spread = prompt["high"] - prompt["low"]
    assert prompt["low"] - spread < truth < prompt["high"] + spread


def test_nothing_of_it_is_usage_and_no_list_of_batches_shows_it(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    before, batches = spent(cats), [batch.id for batch in client.batches.list()]
    told = preflight(cats, lines({"prompt": "Hello"}))

    assert spent(cats) == before
    assert [batch.id for batch in client.batches.list()] == batches
    assert cats.get(f"/v1/batches/{told['id']}").status_code == 404


def test_the_file_that_was_measured_can_be_submitted(client: openai.OpenAI, cats: httpx.Client) -> None:
    file = client.files.create(
        file=(
            "m.jsonl",
            lines({"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hi"}]}}),
        ),
        purpose="batch",
    )
    body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    headers = {"Idempotency-Key": f"preflight of {file.id}"}
    first = cats.post("/v1/preflight", json=body, headers=headers)
    again = cats.post("/v1/preflight", json=body, headers=headers)
    other = cats.post("/v1/preflight", json={**body, "sample": 3}, headers=headers)

    assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert first.json()["input_file_id"] == file.id


def test_a_preflight_can_be_stopped_and_forgotten(cats: httpx.Client) -> None:
    accepted = cats.post(
        "/v1/preflight", content=lines({"prompt": "Hello"}), headers={"Content-Type": "application/jsonl"}
    )
    path = accepted.headers["Location"]
    assert cats.post(f"{path}/cancel").status_code == 200
    ended = cats.get(path, params={"wait": 60}).json()

    assert ended["status"] in ("cancelled", "completed")
    assert cats.delete(path).json() == {"id": ended["id"], "object": "preflight", "deleted": True}
    assert cats.get(path).status_code == 404


def test_a_manifest_without_lines_fails_as_a_whole(cats: httpx.Client) -> None:
    told = preflight(cats, b"\n\n")

    assert told["status"] == "failed"
    assert told["errors"]["data"][0]["code"] == "empty_manifest"


def test_another_tenant_sees_none_of_it(cats: httpx.Client, dogs: httpx.Client) -> None:
    mine = f"/v1/preflight/{preflight(cats, lines({'prompt': 'Hello'}))['id']}"

    for path in (mine, f"/v1/preflight/{UNKNOWN}", "/v1/preflight/nonsense"):
        for answer in (dogs.get(path), dogs.post(f"{path}/cancel"), dogs.delete(path)):
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "preflight_not_found")
    assert cats.get(mine).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input_file_id"),
        ({"input_file_id": "file-" + "0" * 24}, 404, "input_file_id"),
        ({"input_file_id": "x", "sample": 0}, 400, "sample"),
        ({"input_file_id": "x", "sample": 10_001}, 400, "sample"),
        ({"input_file_id": "x", "defaults": {"modle": "a"}}, 400, "defaults.modle"),
        ({"input_file_id": "x", "defaults": {"model": "nobody"}}, 404, "defaults.model"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    cats: httpx.Client, body: dict[str, Any], status: int, param: str
) -> None:
    answer = cats.post("/v1/preflight", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_the_command_line_tells_it_before_anything_runs(
    wire: Wire, cats: httpx.Client, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    manifest = tmp_path / "m.jsonl"
    manifest.write_bytes(lines({"image": "a.png"}, {"image": "gone.png"}, {"image": "file-" + "0" * 24}))
    where = ("--url", wire.url, "--key", wire.cats, "--prompt", "Describe this image.")

    told = sluice("submit", str(manifest), "--dry-run", *where, cwd=tmp_path)

    assert told.returncode == 1, told.stderr
    assert "3, of which 1 would fail at once" in told.stdout
    assert "2 of them, of which 1 would fail" in told.stdout
    assert "image         64\n" in told.stdout
    assert "1 line (2)" in told.stdout
    assert "line 3: " in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 80
    uploaded = cats.get("/v1/files", params={"limit": 2}).json()["data"]
    assert {file["filename"] for file in uploaded} == {"a.png", "m.jsonl"}
    assert all(file["expires_at"] - file["created_at"] == 24 * 3600 for file in uploaded)
