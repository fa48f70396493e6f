"""Answers that are given again: to chats unless they say no, to batches if they ask for it, to nobody else's tenant."""

import base64
import json
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from front_door import sluice, write_manifest
from huggingface_hub import InferenceClient
from PIL import Image
from wire_server import Wire

CHAT = "/v1/chat/completions"
AGAIN = {"x-use-cache": "true"}
ENDED = {"completed", "failed", "cancelled", "expired"}
WAIT_SECONDS = 60.0


def asking(text: str, **wishes: Any) -> dict[str, Any]:
    """A short conversation that no other test has."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 12, **wishes}


def told(http: httpx.Client, body: dict[str, Any], **headers: str) -> tuple[str, dict[str, Any]]:
    """(x-sluice-cache, the whole completion)."""
    answer = http.post(CHAT, json=body, headers={**AGAIN, **headers})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-sluice-cache"], answer.json()


def text_of(completion: dict[str, Any]) -> str:
    return str(completion["choices"][0]["message"]["content"])


def test_an_equal_chat_has_the_same_answer_at_once_and_an_id_of_its_own(cats: httpx.Client) -> None:
    first_said, first = told(cats, asking("Hello, cache."))
    second_said, second = told(cats, asking("Hello, cache.", user="somebody", temperature=0))

    assert (first_said, second_said) == ("miss", "hit")
    assert second["choices"] == first["choices"]
    assert second["id"] != first["id"]
    usage = second["usage"]
    assert usage["prompt_tokens"] == first["usage"]["prompt_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]
    assert (usage["total_time_sec"], usage["avg_compl_tok_per_sec"]) == (0, 0)


@pytest.mark.parametrize("no", ["false", "0"])
def test_a_chat_that_wants_a_new_run_gets_one(cats: httpx.Client, no: str) -> None:
    told(cats, asking("Hello again."))

    said, fresh = told(cats, asking("Hello again."), **{"x-use-cache": no})

    assert said == "bypass"
    assert fresh["usage"]["total_time_sec"] > 0


def test_using_the_cache_is_the_default(wire: Wire) -> None:
    headers = {"Authorization": f"Bearer {wire.cats}"}
    said = [
        httpx.post(wire.url + CHAT, json=asking("Is it?"), headers=headers).headers["x-sluice-cache"]
        for _ in range(2)
    ]

    assert said == ["miss", "hit"]


def test_a_word_that_is_no_answer_to_the_header_is_refused(cats: httpx.Client) -> None:
    answer = cats.post(CHAT, json=asking("Hello."), headers={"x-use-cache": "perhaps"})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-use-cache"


def test_what_is_drawn_freely_is_never_given_again_and_what_has_a_seed_is(cats: httpx.Client) -> None:
    free, seeded = asking("Draw.", temperature=1), asking("Draw.", temperature=1, seed=5)

    assert [told(cats, free)[0] for _ in range(2)] == ["bypass", "bypass"]
    assert [told(cats, seeded)[0] for _ in range(2)] == ["miss", "hit"]


def test_another_tenant_never_gets_it(cats: httpx.Client, dogs: httpx.Client) -> None:
    assert [told(http, asking("Whose is it?"))[0] for http in (cats, dogs, cats, dogs)] == [
        "miss",
        "miss",
        "hit",
        "hit",
    ]


def test_a_hit_streams_the_whole_text_and_its_usage(client: openai.OpenAI) -> None:
    def streamed() -> tuple[str, str, int]:
        answer = client.chat.completions.with_raw_response.create(
            model="default",
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=AGAIN,
            messages=[{"role": "user", "content": "Stream, cache."}],
            max_tokens=12,
        )
        chunks = list(answer.parse())
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] is not None
        usage = chunks[-1].usage
        assert usage is not None
        return answer.headers["x-sluice-cache"], text, usage.completion_tokens

    (first_said, *first), (second_said, *second) = streamed(), streamed()

    assert (first_said, second_said) == ("miss", "hit")
    assert second == first
    assert first[0]


def test_a_picture_counts_by_its_content(cats: httpx.Client) -> None:
    def about(color: str) -> str:
        content = [
            {"type": "text", "text": "Describe this image."},
            {"type": "image_url", "image_url": {"url": picture(color)}},
        ]
        return told(cats, {"messages": [{"role": "user", "content": content}], "max_tokens": 8})[0]

    assert [about(color) for color in ("red", "blue", "red")] == ["miss", "miss", "hit"]


def picture(color: str) -> str:
    file = BytesIO()
    Image.new("RGB", (64, 64), color).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_hugging_faces_client_says_by_its_header_what_it_wants(wire: Wire, cats: httpx.Client) -> None:
    def ask(*headers: dict[str, str]) -> Any:
        client = InferenceClient(
            base_url=wire.url, api_key=wire.cats, headers=headers[0] if headers else None
        )
        return client.chat_completion([{"role": "user", "content": "Hello, hub."}], max_tokens=12)

    first, again, anew = ask(), ask(), ask({"x-use-cache": "0"})

    assert again.choices[0].message.content == first.choices[0].message.content
    assert [_seconds_of(wire, each.id, cats) > 0 for each in (first, again, anew)] == [True, False, True]


def _seconds_of(wire: Wire, completion_id: str, http: httpx.Client) -> float:
    job = http.get(f"/v1/jobs/{completion_id.replace('chatcmpl-', 'job_')}").json()
    return float(job["response"]["usage"]["total_time_sec"])


def test_a_batch_that_asks_for_it_computes_equal_lines_once(cats: httpx.Client) -> None:
    lines = [{"id": f"line-{i}", "prompt": f"Which is number {i % 3}?", "max_tokens": 12} for i in range(30)]

    batch, results = run(cats, lines, dedupe=True)

    assert batch["dedupe"] is True
    assert batch["request_counts"]["completed"] == 30
    assert set(results) == {f"line-{i}" for i in range(30)}
    for i, body in ((i, results[f"line-{i}"]) for i in range(30)):
        assert text_of(body) == text_of(results[f"line-{i % 3}"])
    assert len({body["id"] for body in results.values()}) == 30
    assert sum(body["usage"]["total_time_sec"] > 0 for body in results.values()) == 3
    assert batch["usage"]["output_tokens"] == sum(
        body["usage"]["completion_tokens"] for body in results.values()
    )


def test_another_batch_of_the_tenant_finds_what_the_first_has_computed(cats: httpx.Client) -> None:
    lines = [{"id": "one", "prompt": "Once and for all?", "max_tokens": 12}]
    (_, first), (_, second), (_, plain) = (run(cats, lines, dedupe=yes) for yes in (True, True, False))

    seconds = [results["one"]["usage"]["total_time_sec"] for results in (first, second, plain)]
    assert [each > 0 for each in seconds] == [True, False, True]


def test_the_command_line_asks_for_it(wire: Wire, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "lines.jsonl", [{"id": "one", "prompt": "Once?", "max_tokens": 4}])

    told = sluice(
        "submit", manifest, "--dedupe", "--json", "--url", wire.url, "--key", wire.cats, cwd=tmp_path
    )

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["dedupe"] is True


def run(
    http: httpx.Client, lines: list[dict[str, Any]], *, dedupe: bool
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A batch of these lines as it ended, and its replies by custom_id."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    batch_id = http.post(
        "/v1/jobs",
        params={"dedupe": str(dedupe).lower()},
        content=body,
        headers={"Content-Type": "application/jsonl"},
    ).json()["id"]
    batch = eventually(
        lambda: http.get(f"/v1/batches/{batch_id}").json(), lambda seen: seen["status"] in ENDED
    )
    output = http.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    rows = [json.loads(row) for row in output]
    return batch, {row["custom_id"]: row["response"]["body"] for row in rows}


def eventually(look: Callable[[], Any], is_it: Callable[[Any], bool]) -> Any:
    """What is seen once it is so."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not is_it(seen := look()):
        assert time.monotonic() < give_up, seen
        time.sleep(0.1)
    return seen
