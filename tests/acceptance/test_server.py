"""`sluice serve` and OpenAI's own client: chat, stream, files, batches, and the commands that talk to a server."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from front_door import (
    QUESTION,
    Drawing,
    answers_in,
    children,
    draw,
    kill_child,
    picture_rows,
    sluice,
    started,
    url_in,
    wait_for,
    write_manifest,
)

from sluice.client import Client


@dataclass(frozen=True)
class Served:
    """A running `sluice serve`."""

    folder: Path
    url: str
    pid: int

    def sluice(self, *arguments: object) -> Any:
        """Another command that talks to it."""
        return sluice(*arguments, "--url", self.url, cwd=self.folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with started("serve", "-p", "0", "--data-dir", "data", cwd=folder) as process:
        url = wait_for(lambda: process.poll() is not None or url_in(folder / "data"))
        assert process.poll() is None, process.communicate()
        with Client(url) as client:
            wait_for(client.is_ready)
        yield Served(folder, url, process.pid)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="foobar") as opened:
        yield opened


def question_about(drawing: Drawing) -> list[dict[str, Any]]:
    picture = base64.b64encode(drawing.path.read_bytes()).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    return [{"role": "user", "content": [part, {"type": "text", "text": QUESTION}]}]


def test_a_chat_about_a_picture(served: Served, client: openai.OpenAI) -> None:
    drawing = draw(served.folder, 3)

    reply = client.chat.completions.create(model="default", messages=question_about(drawing))

    assert reply.choices[0].message.content == drawing.answer
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0


def test_a_stream_says_the_same_in_pieces(served: Served, client: openai.OpenAI) -> None:
    drawing = draw(served.folder, 4)

    chunks = list(
        client.chat.completions.create(
            model="default",
            messages=question_about(drawing),
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == drawing.answer
    assert chunks[-1].usage is not None


def test_a_batch_from_upload_to_output_and_error_files(served: Served, client: openai.OpenAI) -> None:
    drawing = draw(served.folder, 5)
    uploaded = client.files.create(file=drawing.path, purpose="vision")
    rows = [
        {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "default",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": file_id}},
                            {"type": "text", "text": QUESTION},
                        ],
                    }
                ],
            },
        }
        for name, file_id in (("good", uploaded.id), ("bad", "file-000000000000000000000000"))
    ]
    manifest = write_manifest(served.folder / "openai.jsonl", list(rows))
    input_file = client.files.create(file=manifest, purpose="batch")

    batch = client.batches.create(
        input_file_id=input_file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    batch = wait_for(lambda: (now := client.batches.retrieve(batch.id)).status == "completed" and now)

    assert batch.request_counts.model_dump(include={"total", "completed", "failed"}) == {
        "total": 2,
        "completed": 1,
        "failed": 1,
    }
    (good,) = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
    assert good["custom_id"] == "good"
    assert good["response"]["body"]["choices"][0]["message"]["content"] == drawing.answer
    (bad,) = map(json.loads, client.files.content(batch.error_file_id).text.splitlines())
    assert bad["custom_id"] == "bad"
    assert bad["response"]["body"]["error"]["line"] == 2
    assert batch.id in [each.id for each in client.batches.list()]


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert "tiny-gemma4" in [model.id for model in client.models.list()]


def test_submit_uploads_what_the_manifest_names_and_results_come_back(served: Served, tmp_path: Path) -> None:
    rows, right = picture_rows(tmp_path, 3)
    manifest = write_manifest(tmp_path / "far.jsonl", [*rows, {"id": "again", "image": "media/0.png"}])

    told = served.sluice("submit", manifest, "--prompt", QUESTION, "--json")
    assert told.returncode == 0, told.stderr
    batch_id = json.loads(told.stdout)["id"]
    assert served.sluice("status", batch_id, "--watch").returncode == 0
    assert batch_id in served.sluice("status").stdout
    results = served.sluice("results", batch_id, "-o", tmp_path / "out.jsonl")

    assert results.returncode == 0, results.stderr
    assert answers_in(tmp_path / "out.jsonl") == {**right, "again": right["shape-0"]}


def test_chat_answers_by_a_schema(served: Served) -> None:
    schema = served.folder / "shape.json"
    color = {"enum": ["red", "green", "blue"]}
    schema.write_text(
        json.dumps(
            {
                "type": "object",
                "properties": {"color": color},
                "required": ["color"],
                "additionalProperties": False,
            }
        )
    )

    told = served.sluice("chat", "-i", "Hello", "--json-schema", schema)

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["color"] in color["enum"]


def test_chat_streams_to_the_terminal(served: Served) -> None:
    drawing = draw(served.folder, 6)

    told = served.sluice("chat", "-i", QUESTION, "--image", drawing.path)

    assert told.returncode == 0, told.stderr
    assert told.stdout == f"{drawing.answer}\n"


def test_an_unknown_batch_is_one_sentence(served: Served) -> None:
    told = served.sluice("status", "batch_000000000000000000000000")

    assert told.returncode == 2
    assert len(told.stderr.splitlines()) == 1


def test_a_killed_engine_comes_back_and_answers(served: Served, client: openai.OpenAI) -> None:
    killed = kill_child(served.pid, "engine@")
    drawing = draw(served.folder, 7)

    reply = client.chat.completions.create(model="default", messages=question_about(drawing))

    assert reply.choices[0].message.content == drawing.answer
    assert not Path(f"/proc/{killed}").exists()
    os.kill(served.pid, 0)


def test_a_killed_broker_and_a_killed_web_process_come_back(served: Served, client: openai.OpenAI) -> None:
    killed = {kill_child(served.pid, words) for words in ("valkey-server", "gunicorn")}
    wait_for(lambda: len(children(served.pid)) == 4 and not killed & children(served.pid).keys())
    drawing = draw(served.folder, 8)

    chunks = client.chat.completions.create(model="default", messages=question_about(drawing), stream=True)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == drawing.answer


def test_once_a_key_exists_every_request_needs_one(served: Served) -> None:
    key = sluice("keys", "create", "--tenant", "cats", "--data-dir", "data", cwd=served.folder)
    assert key.returncode == 0, key.stderr

    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="foobar") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=key.stdout.strip()) as owner:
        assert "tiny-gemma4" in [model.id for model in owner.models.list()]
