"""Files as the official client knows them, and what no client should send."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from backports import zstd
from front_door import children, wait_for
from wire_server import Wire

from sluice.launcher.data_dir import DataDir

HOUR = 3600
LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}\n'


def test_a_file_has_every_field_and_goes_when_it_should(client: openai.OpenAI) -> None:
    file = client.files.create(
        file=("lines.jsonl", LINE), purpose="batch", expires_after={"anchor": "created_at", "seconds": HOUR}
    )

    assert (file.object, file.bytes, file.filename, file.purpose) == (
        "file",
        len(LINE),
        "lines.jsonl",
        "batch",
    )
    assert (file.status, file.expires_at) == ("processed", file.created_at + HOUR)
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == LINE
    gone = client.files.delete(file.id)
    assert (gone.id, gone.object, gone.deleted) == (file.id, "file", True)
    for look in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as refusal:
            look(file.id)
        assert (refusal.value.code, refusal.value.param) == ("file_not_found", "file_id")


def test_pages_of_files_go_on_where_the_last_one_ended(client: openai.OpenAI) -> None:
    made = [client.files.create(file=(f"{n}.png", b"x"), purpose="vision").id for n in range(3)]

    newest = client.files.list(purpose="vision", limit=2)
    assert [file.id for file in newest.data] == made[:0:-1]
    assert newest.has_more
    assert {*made} <= {file.id for file in client.files.list(purpose="vision", limit=2)}
    oldest = [file.id for file in client.files.list(purpose="vision", limit=2, order="asc")]
    assert [known for known in oldest if known in made] == made
    with pytest.raises(openai.NotFoundError):
        client.files.list(after="file-000000000000000000000000000")


def test_output_files_go_when_the_batch_asked_for_it(client: openai.OpenAI) -> None:
    body = {"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = client.files.create(file=("m.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 2 * HOUR},
    )
    ended = wait_for(lambda: (seen := client.batches.retrieve(batch.id)).status == "completed" and seen)

    assert ended.model == client.models.retrieve("default").id
    assert ended.output_file_id is not None
    output = client.files.retrieve(ended.output_file_id)
    assert (output.purpose, output.expires_at) == ("batch_output", output.created_at + 2 * HOUR)


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"purpose": "fine-tune"}, {"file": ("a", b"x")}, "purpose"),
        ({"purpose": "evals"}, {"file": ("a", b"x")}, "purpose"),
        ({}, {"file": ("a", b"x")}, "purpose"),
        ({"purpose": "batch"}, {"other": ("a", b"x")}, "file"),
        ({"purpose": "batch", "file": "words"}, {"other": ("a", b"x")}, "file"),
        ({"purpose": "batch"}, {"file": ("a", b"")}, "file"),
        ({"purpose": "batch"}, [("file", ("a", b"x")), ("file", ("b", b"y"))], "file"),
        *(
            ({"purpose": "batch", **expiry}, {"file": ("a", b"x")}, param)
            for expiry, param in (
                ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
                ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
                ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
                *(
                    (
                        {"expires_after[anchor]": "created_at", "expires_after[seconds]": seconds},
                        "expires_after[seconds]",
                    )
                    for seconds in ("3599", "2592001", "soon", "", "-3600")
                ),
            )
        ),
    ],
)
def test_an_upload_that_is_not_one_says_which_field_is_wrong(
    cats: httpx.Client, data: dict[str, str], files: object, param: str
) -> None:
    refused = cats.post("/v1/files", data=data, files=files)  # type: ignore[arg-type]

    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"--b\r\nContent-Disposition: form-data; name=file; filename=" + b"a" * 2_000_000, 413),
        (b"--b\r\n" + b"X-Pad: 1\r\n" * 200_000, 413),
        (
            b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\n" + b"a" * 2_000_000 + b"\r\n--b--",
            413,
        ),
        (b"no form at all", 400),
        (b"", 400),
    ],
    ids=["huge name", "huge header", "huge field", "no form", "nothing"],
)
def test_a_form_that_only_fills_memory_is_refused(cats: httpx.Client, head: bytes, status: int) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    assert cats.post("/v1/files", content=head, headers=headers).status_code == status


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_compressed_requests_are_read_and_broken_ones_refused(
    cats: httpx.Client, encoding: str, pack
) -> None:
    def chat(body: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        return cats.post("/v1/chat/completions", content=body, headers=headers)

    asked = pack(b'{"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}')
    assert chat(asked).status_code == 200
    assert chat(asked[:-5]).json()["error"]["code"] == "invalid_encoding"
    assert chat(pack(bytes(70 << 20))).status_code == 413


def test_a_large_upload_passes_through_and_never_sits_in_memory(wire: Wire, cats: httpx.Client) -> None:
    web = _web_process(wire)
    _upload(cats, 1 << 20)
    Path(f"/proc/{web}/clear_refs").write_text("5")
    before = _peak_bytes(web)
    file = _upload(cats, 40 << 20)

    assert file["bytes"] == 40 << 20
    assert _peak_bytes(web) - before < 20 << 20
    assert list((wire.data_dir / "spool").iterdir()) == []
    cats.delete(f"/v1/files/{file['id']}")


def _upload(cats: httpx.Client, size: int) -> dict:
    def form() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        for _ in range(size >> 18):
            yield bytes(1 << 18)
        yield b"\r\n--b--\r\n"

    uploaded = cats.post(
        "/v1/files", content=form(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert uploaded.status_code == 200, uploaded.text
    return uploaded.json()


def _web_process(wire: Wire) -> int:
    """The process that answers: gunicorn's child."""
    running = DataDir(wire.data_dir).running()
    assert running is not None
    (master,) = (pid for pid, words in children(running.pid).items() if "gunicorn" in words)
    deadline = time.monotonic() + 10
    while not (found := list(children(master))):
        assert time.monotonic() < deadline
    return found[0]


def _peak_bytes(pid: int) -> int:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) << 10
