"""What a file is shows in its first bytes, whatever made it: real files of every format that we read."""

from pathlib import Path

import pytest
from media_samples import clip, corners, encoded, tone

from service.contract.file_kinds import HEAD_BYTES, kind_of_bytes, kind_of_name
from service.contract.media import MediaKind
from service.errors import BadMedia, NotFound
from workers.media.media import Media

IMAGES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
CLIPS = (("libx264", "mp4"), ("mpeg4", "mov"), ("libx264", "matroska"), ("libvpx", "webm"), ("mpeg4", "avi"))
SOUNDS = (
    ("pcm_s16le", "wav"),
    ("libmp3lame", "mp3"),
    ("flac", "flac"),
    ("libopus", "ogg"),
    ("aac", "adts"),
    ("aac", "ipod"),
)
FILES = {
    **{format: (lambda f=format: encoded(corners(), f), MediaKind.IMAGE) for format in IMAGES},
    **{f"clip {f}": (lambda c=codec, f=f: clip(c, f), MediaKind.VIDEO) for codec, f in CLIPS},
    "clip mpegts": (lambda: clip("mpeg2video", "mpegts"), MediaKind.VIDEO),
    **{f"sound {f}": (lambda c=codec, f=f: tone(c, f, rate=48_000), MediaKind.AUDIO) for codec, f in SOUNDS},
}


@pytest.mark.parametrize("name", FILES)
def test_the_first_bytes_tell_the_kind(name):
    make, kind = FILES[name]
    assert kind_of_bytes(make()[:HEAD_BYTES]) is kind


@pytest.mark.parametrize("head", [b"", b"\xff", b"RIFF", b"%PDF-1.7", b"PK\3\4", b"hello", b"G" + bytes(400)])
def test_what_is_no_medium_has_no_kind(head):
    assert kind_of_bytes(head) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.PNG", MediaKind.IMAGE),
        ("b.c.mp4", MediaKind.VIDEO),
        ("x.flac", MediaKind.AUDIO),
        ("x", None),
        (None, None),
    ],
)
def test_the_ending_of_a_name_tells_the_kind(name, kind):
    assert kind_of_name(name) is kind


def test_an_upload_is_known_by_its_bytes_to_its_tenant_alone(media: Media, uploads, tmp_path: Path):
    (tmp_path / "upload").write_bytes(encoded(corners(), "PNG"))
    uploads["default", "file-kind"] = tmp_path / "upload"
    assert media.kind_of("file-kind", "default", "x") is MediaKind.IMAGE
    with pytest.raises(NotFound) as refused:
        media.kind_of("file-kind", "rival", "messages[0].content[0].file")
    assert refused.value.param == "messages[0].content[0].file"


def test_an_upload_that_is_no_medium_is_refused_with_its_place(media: Media, uploads, tmp_path: Path):
    (tmp_path / "upload").write_bytes(b"%PDF-1.7 and so on")
    uploads["default", "file-pdf"] = tmp_path / "upload"
    with pytest.raises(BadMedia) as refused:
        media.kind_of("file-pdf", "default", "messages[0].content[0].file")
    assert (refused.value.code, refused.value.param) == ("media_unrecognized", "messages[0].content[0].file")
