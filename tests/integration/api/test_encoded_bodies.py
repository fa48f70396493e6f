"""Bodies that come compressed: JSON, JSON lines and forms, whole, broken, and made to burst."""

import gzip
import io
import json
import random
import tracemalloc
import zlib
from collections import deque

import pytest
from backports import zstd
from flask.testing import FlaskClient

from service.api.encodings import decoded
from service.errors import BadRequest, TooLarge

JOB = json.dumps({"prompt": "Hello"}).encode()
LINES = b"".join(json.dumps({"id": f"p{n}", "prompt": f"Say {n}."}).encode() + b"\n" for n in range(500))
PACK = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "zstd": zstd.compress}


def form(content: bytes) -> tuple[bytes, str]:
    head = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    return head + content + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"


def post(http: FlaskClient, path: str, body: bytes, kind: str, encoding: str):
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    return http.post(path, data=body, headers=headers)


@pytest.mark.parametrize("encoding", PACK)
def test_a_compressed_body_is_read_as_if_it_were_not(http: FlaskClient, encoding: str) -> None:
    pack = PACK[encoding]
    job = post(http, "/v1/jobs", pack(JOB), "application/json", encoding)
    assert (job.status_code, job.json["status"]) == (202, "queued")
    batch = post(http, "/v1/jobs", pack(LINES), "application/jsonl", encoding)
    assert batch.status_code == 200
    assert http.get(f"/v1/files/{batch.json['input_file_id']}/content", buffered=True).data == LINES
    body, kind = form(LINES)
    file = post(http, "/v1/files", pack(body), kind, encoding)
    assert (file.status_code, file.json["bytes"]) == (200, len(LINES))
    assert http.get(f"/v1/files/{file.json['id']}/content", buffered=True).data == LINES


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_frames_that_follow_each_other_are_one_body(http: FlaskClient, pack) -> None:
    halves = pack(LINES[:5000]) + pack(b"") + pack(LINES[5000:])
    batch = post(http, "/v1/jobs", halves, "application/jsonl", "gzip" if pack is gzip.compress else "zstd")
    assert http.get(f"/v1/files/{batch.json['input_file_id']}/content", buffered=True).data == LINES


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "compress", "x" * 200])
def test_an_unknown_encoding_is_refused_with_those_that_are_known(http: FlaskClient, encoding: str) -> None:
    refused = post(http, "/v1/jobs", JOB, "application/json", encoding)
    assert (refused.status_code, refused.json["error"]["code"]) == (415, "unsupported_encoding")
    assert refused.headers["Accept-Encoding"] == "gzip, zstd"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(LINES)[:-9]),
        ("gzip", gzip.compress(LINES)[:100]),
        ("gzip", gzip.compress(LINES)[:-8] + b"12345678"),
        ("gzip", LINES),
        ("gzip", gzip.compress(LINES) + b"more"),
        ("gzip", zlib.compress(LINES)),
        ("zstd", zstd.compress(LINES)[:-3]),
        ("zstd", zstd.compress(LINES)[:20]),
        ("zstd", gzip.compress(LINES)),
        ("zstd", zstd.compress(LINES, options={zstd.CompressionParameter.window_log: 24})[:6] + b"\xff" * 50),
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/files", "/v1/chat/completions"])
def test_a_broken_body_is_refused_and_nothing_is_kept(
    http: FlaskClient, parts, path: str, encoding: str, body: bytes
) -> None:
    kind = {
        "/v1/jobs": "application/jsonl",
        "/v1/files": "multipart/form-data; boundary=b",
        "/v1/chat/completions": "application/json",
    }[path]
    refused = post(http, path, body, kind, encoding)
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "invalid_encoding")
    assert http.get("/v1/files").json["data"] == http.get("/v1/batches").json["data"] == []
    assert [found for found in (parts.settings.data_dir / "blobs").rglob("*") if found.is_file()] == []


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/jobs", "application/json"),
        ("/v1/jobs", "application/jsonl"),
        ("/v1/files", "multipart/form-data; boundary=b"),
        ("/v1/chat/completions", "application/json"),
    ],
)
def test_the_limit_is_on_what_a_body_comes_to(http: FlaskClient, path: str, kind: str, encoding: str) -> None:
    plain = form(b"x" * 300_001)[0] if path == "/v1/files" else b'{"prompt": "' + b"x" * 300_001
    refused = post(http, path, PACK[encoding](plain), kind, encoding)
    assert refused.status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_cut_off_early_and_never_held(encoding: str) -> None:
    bomb = io.BytesIO(PACK[encoding](bytes(200 << 20)))
    stream = decoded(bomb, encoding, 10 << 30)
    tracemalloc.start()
    with pytest.raises(TooLarge) as refusal:
        deque(iter(lambda: stream.read(1 << 16), b""), maxlen=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refusal.value.code == "compression_ratio"
    assert peak < 4 << 20


def test_a_sender_cannot_make_us_remember_a_large_window() -> None:
    noise = random.Random(0).randbytes(1 << 20) * 30
    packed = zstd.compress(
        noise,
        options={zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0},
    )
    with pytest.raises(BadRequest):
        decoded(io.BytesIO(packed), "zstd", None).read()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [1, 2, 3, 100, 65535, 65536, 65537])
def test_no_byte_is_lost_however_little_is_asked_for(encoding: str, size: int) -> None:
    plain = random.Random(1).randbytes(5000) * 40
    stream = decoded(io.BytesIO(PACK[encoding](plain)), encoding, None)
    step = max(size, 50)
    assert b"".join(iter(lambda: stream.read(step), b"")) == plain
