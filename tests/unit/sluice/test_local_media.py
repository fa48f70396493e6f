"""Local files on their way to a server."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import MediaUnavailable
from sluice import media_files
from sluice.manifests import rewrite
from sluice.media_files import Uploader, content_parts


class Uploads:
    """Keeps what it is sent, as a server would."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []

    def upload(self, content: Any, filename: str, purpose: str) -> dict[str, Any]:
        self.received.append((filename, content.read()))
        return {"id": f"file-{len(self.received)}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "cat one.png").write_bytes(b"cat")
    (tmp_path / "dog.wav").write_bytes(b"dog")
    return tmp_path


def rewritten(folder: Path, uploads: Uploads, *lines: object) -> list[Any]:
    manifest = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    out = rewrite(io.BytesIO(manifest.encode()), folder, Uploader(uploads).id_of)
    return [json.loads(line) if line.startswith(b"{") else line for line in out]


def test_every_local_file_is_uploaded_once_and_named_by_its_id(folder: Path) -> None:
    uploads = Uploads()
    part = {"type": "image_url", "image_url": {"url": "media/../media/cat one.png", "detail": "low"}}
    body = {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "dog.wav"}]}]}

    short, many, openai = rewritten(
        folder,
        uploads,
        {"image": "media/cat one.png"},
        {"images": [str(folder / "media" / "cat one.png")], "audio": "dog.wav", "prompt": "What?"},
        {"custom_id": "1", "body": body},
    )

    assert uploads.received == [("cat one.png", b"cat"), ("dog.wav", b"dog")]
    assert short == {"image": "file-1"}
    assert many == {"images": ["file-1"], "audio": "file-2", "prompt": "What?"}
    (sent, words) = openai["body"]["messages"][0]["content"]
    assert sent["image_url"] == {"url": "file-1", "detail": "low"}
    assert words["text"] == "dog.wav"


def test_what_is_not_a_local_file_goes_as_it_is(folder: Path) -> None:
    uploads = Uploads()
    lines = [
        {"image": "https://example.com/cat.png"},
        {"image": "data:image/png;base64,AAAA"},
        {"image": "file-0123456789abcdef01234567"},
        {"image": "gone.png"},
        {"image": 7},
        {"messages": "none"},
    ]

    assert rewritten(folder, uploads, *lines, "not json") == [*lines, b"not json"]
    assert uploads.received == []


def test_a_chat_carries_small_files_and_uploads_large_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_files, "INLINE_BYTES", 3)
    (folder / "dog.wav").write_bytes(b"a loud dog")
    uploads = Uploads()

    image, audio, text = content_parts(
        [("image", folder / "media" / "cat one.png"), ("audio", folder / "dog.wav")],
        "What?",
        Uploader(uploads),
    )

    assert image["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(b'cat').decode()}"
    assert audio["audio_url"]["url"] == "file-1"
    assert text == {"type": "text", "text": "What?"}


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(MediaUnavailable, match=r"There is no file .*gone\.png\."):
        content_parts([("image", folder / "gone.png")], "What?", Uploader(Uploads()))
