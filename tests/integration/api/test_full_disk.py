"""A disk that has no room for an upload: the sender is told, and nothing of it stays."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.settings import Settings

ROOM = 4 << 20
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n%b\r\n--b--\r\n'
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_upload_bytes": 100 << 20})


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may grow beyond ROOM."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/files",
            {"data": FORM % (b"x" * (ROOM + 1)), "content_type": "multipart/form-data; boundary=b"},
        ),
        ("/v1/jobs", {"data": b'{"prompt": "Hello"}\n' * (ROOM // 10), "content_type": "application/jsonl"}),
    ],
    ids=["form", "lines"],
)
def test_an_upload_that_does_not_fit_is_a_507_and_leaves_nothing(
    http: FlaskClient, settings: Settings, path: str, body: dict
) -> None:
    refused = http.post(path, **body)

    assert refused.status_code == 507, refused.text
    assert (refused.json["error"]["code"], refused.json["error"]["retryable"]) == (
        "insufficient_storage",
        True,
    )
    assert http.get("/v1/files").json["data"] == []
    left = [found for name in ("blobs", "spool") for found in Path(settings.data_dir / name).rglob("*")]
    assert [found for found in left if found.is_file()] == []
