"""Results while a batch runs: followed across a cut, as tables, as events; and where each of them came from."""

import base64
import csv
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from front_door import wait_for
from PIL import Image
from pyarrow import parquet
from wire_server import Wire

from sluice.cli import _exit_code

NUM_LINES = 300
NUM_PICTURES = 12
CLIP = Path(__file__).resolve().parents[3] / "manifests/media/red-circle-shrinks.mp4"
KINDS = ("text", "image", "video", "audio")


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _picture(color: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (320, 200), color).save(file, "PNG")
    return _data_uri("image/png", file.getvalue())


def _submit(cats: httpx.Client, rows: list[dict[str, Any]]) -> str:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    made = cats.post("/v1/jobs", content=lines, headers={"Content-Type": "application/jsonl"})
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


def _json_lines(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in lines if line)


@dataclass
class Run:
    """One batch, and what those who followed it saw."""

    batch_id: str
    batch: dict[str, Any] = field(default_factory=dict)
    before_the_cut: list[dict[str, Any]] = field(default_factory=list)
    after_the_cut: list[dict[str, Any]] = field(default_factory=list)
    status_at_the_cut: str = ""
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    csv_exit_code: int | None = None

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [*self.before_the_cut, *self.after_the_cut]


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("followed") / "followed.csv"


@pytest.fixture(scope="module")
def ran(wire: Wire, csv_file: Path) -> Run:
    rows = [
        {"id": f"text-{n}", "prompt": f"Hello {n}", "max_tokens": 6}
        for n in range(NUM_LINES - NUM_PICTURES - 2)
    ]
    pictures = [_picture(color) for color in ("red", "green", "blue")]
    for n in range(NUM_PICTURES):
        rows.append({"id": f"picture-{n}", "image": pictures[n % 3], "prompt": "Describe this image."})
    clip = _data_uri("video/mp4", CLIP.read_bytes())
    rows.append({"id": "clip", "video": clip, "prompt": "Describe this video.", "max_tokens": 6})
    rows.append({"id": "hot", "prompt": "=1+1", "temperature": 9})
    headers = {"Authorization": f"Bearer {wire.cats}"}
    with httpx.Client(base_url=wire.url, headers=headers, timeout=60) as cats:
        run = Run(_submit(cats, rows))
        others = [
            threading.Thread(target=_watch, args=(cats, run)),
            threading.Thread(target=_follow_as_csv, args=(wire, run, csv_file)),
        ]
        for other in others:
            other.start()
        _follow_with_a_cut(cats, run)
        for other in others:
            other.join(60)
        run.batch = cats.get(f"/v1/batches/{run.batch_id}").json()
    return run


def _follow_with_a_cut(cats: httpx.Client, run: Run) -> None:
    path, query = f"/v1/batches/{run.batch_id}/results", {"follow": "true"}
    with cats.stream("GET", path, params=query) as answer:
        for line in _json_lines(answer.iter_lines()):
            run.before_the_cut.append(line)
            if len(run.before_the_cut) == 40:
                break
    run.status_at_the_cut = cats.get(f"/v1/batches/{run.batch_id}").json()["status"]
    query["cursor"] = run.before_the_cut[-1]["cursor"]
    with cats.stream("GET", path, params=query) as answer:
        run.after_the_cut = list(_json_lines(answer.iter_lines()))


def _follow_as_csv(wire: Wire, run: Run, target: Path) -> None:
    command = ["results", run.batch_id, "--follow", "--format", "csv", "-o", str(target)]
    run.csv_exit_code = _exit_code([*command, "--url", wire.url, "--key", wire.cats])


def _watch(cats: httpx.Client, run: Run) -> None:
    with cats.stream("GET", f"/v1/batches/{run.batch_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                run.events.append((name, json.loads(line.removeprefix("data: "))))


def test_a_cut_follower_goes_on_where_it_was_and_gets_every_line_once(ran: Run) -> None:
    assert ran.status_at_the_cut in ("validating", "in_progress")
    assert len(ran.lines) == NUM_LINES
    assert sorted(line["line"] for line in ran.lines) == list(range(1, NUM_LINES + 1))
    by_name = {line["custom_id"]: line for line in ran.lines}
    assert by_name["hot"]["response"]["body"]["error"]["param"] == "temperature"
    assert by_name["picture-0"]["response"]["body"]["choices"][0]["message"]["content"]
    assert ran.batch["request_counts"] == ran.batch["request_counts"] | {"completed": 299, "failed": 1}


def test_the_batchs_usage_is_the_sum_of_its_results(ran: Run, client: openai.OpenAI) -> None:
    counted = [line["usage"] for line in ran.lines if line["usage"]]
    for usage in counted:
        details = usage["prompt_tokens_details"]
        assert sum(details[f"{kind}_tokens"] for kind in KINDS) == usage["prompt_tokens"]
    whole = client.batches.retrieve(ran.batch_id).usage
    assert whole is not None
    assert whole.input_tokens == sum(usage["prompt_tokens"] for usage in counted)
    assert whole.output_tokens == sum(usage["completion_tokens"] for usage in counted)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in counted)
    assert whole.input_tokens_details.cached_tokens == cached > 0
    for line in ran.lines:
        if line["usage"]:
            assert line["response"]["body"]["usage"] == line["usage"]


def test_the_command_line_follows_into_a_table(ran: Run, csv_file: Path) -> None:
    assert ran.csv_exit_code == 1  # one line failed
    with csv_file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["line"]) for row in rows) == list(range(1, NUM_LINES + 1))
    texts = {row["custom_id"]: row["text"] for row in rows}
    for line in ran.lines[:50]:
        if line["status"] == "succeeded":
            content = line["response"]["body"]["choices"][0]["message"]["content"]
            assert texts[line["custom_id"]].removeprefix("'") == content.removeprefix("'")


def test_a_parquet_file_has_them_all(ran: Run, cats: httpx.Client, dogs: httpx.Client) -> None:
    path = f"/v1/batches/{ran.batch_id}/results?format=parquet"
    answer = cats.get(path)

    table = parquet.read_table(io.BytesIO(answer.content))
    assert table.num_rows == NUM_LINES
    assert answer.headers["x-sluice-complete"] == "true"
    tokens = sum(table.column("completion_tokens").drop_null().to_pylist())
    assert tokens == ran.batch["usage"]["output_tokens"]
    assert dogs.get(path).status_code == 404


def test_its_events_come_to_an_end_with_it(ran: Run) -> None:
    names = [name for name, _ in ran.events]
    assert names[-1] == "ended"
    assert set(names[:-1]) == {"progress"}
    last = ran.events[-1][1]
    assert (last["status"], last["unfinished"]) == ("completed", 0)
    assert last["usage"] == ran.batch["usage"]
    ended = [event["request_counts"]["completed"] for _, event in ran.events]
    assert ended == sorted(ended)
    assert any(event["jobs_per_second"] for _, event in ran.events)


def test_every_result_says_where_it_came_from(ran: Run, cats: httpx.Client) -> None:
    by_name = {line["custom_id"]: line["provenance"] for line in ran.lines}
    for provenance in by_name.values():
        assert provenance["model"] == "tiny-gemma4"
        assert provenance["quantization"]["bits"] == 8
        assert provenance["device"] == "cpu"
        assert provenance["revision"]
        assert provenance["attempt"] >= 1
        assert provenance["linear_kernel"]
        assert provenance["queued_seconds"] >= 0
    (picture,) = by_name["picture-0"]["media"]
    assert (picture["kind"], picture["original_size"]) == ("image", [320, 200])
    (clip,) = by_name["clip"]["media"]
    assert clip["kind"] == "video"
    assert 1 < clip["num_frames"] <= clip["total_frames"] == 8
    assert clip["original_size"] == [160, 120]
    assert by_name["clip"]["device_seconds"] > 0
    found = cats.get("/v1/jobs", params={"batch_id": ran.batch_id, "custom_id": "clip"}).json()["data"]
    assert [job["provenance"] for job in found] == [by_name["clip"]]
    assert found[0]["finished_at"] >= found[0]["created_at"]
    output = cats.get(f"/v1/files/{ran.batch['output_file_id']}/content").text
    written = {line["custom_id"]: line for line in _json_lines(iter(output.splitlines()))}
    assert written["clip"]["provenance"] == by_name["clip"]
    assert "provenance" not in written["clip"]["response"]["body"]


def test_a_chat_and_its_job_tell_the_same_usage(client: openai.OpenAI, cats: httpx.Client) -> None:
    content = [
        {"type": "image_url", "image_url": {"url": _picture("purple")}},
        {"type": "text", "text": "Describe this image."},
    ]
    message: Any = {"role": "user", "content": content}
    for max_tokens in (3, 4):
        chat = client.chat.completions.create(model="default", messages=[message], max_tokens=max_tokens)

    assert chat.usage is not None
    assert chat.usage.prompt_tokens_details is not None
    assert (chat.usage.prompt_tokens_details.cached_tokens or 0) > 0
    job = cats.get(f"/v1/jobs/{chat.id.replace('chatcmpl-', 'job_')}").json()
    assert job["usage"] == job["response"]["usage"] == chat.usage.model_dump(exclude_unset=True)
    assert job["provenance"]["media"][0]["original_size"] == [320, 200]


def test_what_was_cancelled_is_told_to_followers_at_the_end(cats: httpx.Client) -> None:
    rows = [{"id": f"{n}", "prompt": "Hello", "max_tokens": 400, "ignore_eos": True} for n in range(200)]
    batch_id = _submit(cats, rows)
    wait_for(lambda: cats.get(f"/v1/batches/{batch_id}").json()["request_counts"]["total"] == 200)

    with cats.stream("GET", f"/v1/batches/{batch_id}/results", params={"follow": "true"}) as answer:
        assert cats.post(f"/v1/batches/{batch_id}/cancel").status_code == 200
        lines = list(_json_lines(answer.iter_lines()))

    assert sorted(line["line"] for line in lines) == list(range(1, 201))
    assert {line["error"]["code"] for line in lines if line["response"] is None} == {"batch_cancelled"}
