"""Broken, lying and hostile media: each is refused with its own code, and none reads a file or the network."""

import io
import os
import socket
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from media_samples import NEEDS, PARAM, clip, corners, data_uri, encoded, png_header, ref_to, tone, wav
from PIL import Image

from service.contract.media import MediaKind, MediaNeeds
from service.errors import BadMedia, BadRequest, MediaUnavailable, NotFound
from workers.media.limits import MIB, MediaLimits
from workers.media.media import Media

IMAGE, VIDEO, AUDIO = MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.AUDIO


def gif_header(width: int, height: int) -> bytes:
    gif = bytearray(encoded(Image.new("P", (16, 16)), "GIF"))
    gif[6:10] = struct.pack("<HH", width, height)
    return bytes(gif)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def container_file(codec: str, format: str) -> bytes:
    return tone(codec, format, seconds=0.2, rate=16_000)


BAD = {
    # Images
    "an empty string": (IMAGE, lambda: data_uri(b"", "image/png"), "media_empty"),
    "text as an image": (IMAGE, lambda: b"hello, I am no picture" * 9, "media_unrecognized"),
    "half a jpeg": (IMAGE, lambda: half(encoded(corners(), "JPEG")), "media_undecodable"),
    "half a png": (
        IMAGE,
        lambda: half(encoded(Image.effect_noise((64, 64), 99), "PNG")),
        "media_undecodable",
    ),
    "half a webp": (IMAGE, lambda: half(encoded(Image.effect_noise((64, 64), 99), "WEBP")), "*"),
    "a png without pixels": (IMAGE, lambda: png_header(64, 64), "media_undecodable"),
    "a png bomb": (IMAGE, lambda: png_header(60_000, 60_000), "media_too_many_pixels"),
    "a png just over the limit": (IMAGE, lambda: png_header(2001, 2000), "media_too_many_pixels"),
    "a gif bomb": (IMAGE, lambda: gif_header(60_000, 60_000), "media_too_many_pixels"),
    "one pixel": (IMAGE, lambda: encoded(corners(1, 1), "PNG"), "media_too_small"),
    "a thread": (IMAGE, lambda: encoded(corners(1200, 8), "PNG"), "media_aspect"),
    "an encapsulated postscript": (IMAGE, lambda: encoded(corners(), "EPS"), "media_unrecognized"),
    "a pdf": (IMAGE, lambda: encoded(corners(), "PDF"), "media_unrecognized"),
    "an icon, not in the list": (IMAGE, lambda: encoded(corners(64, 64), "ICO"), "media_unrecognized"),
    "an svg": (
        IMAGE,
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/hosts'/></svg>",
        "media_unrecognized",
    ),
    "32-bit floats": (
        IMAGE,
        lambda: encoded(Image.new("F", (32, 32), 0.5), "TIFF"),
        "image_mode_unsupported",
    ),
    "a sound as an image": (IMAGE, lambda: tone("pcm_s16le", "wav"), "media_unrecognized"),
    "a clip as an image": (IMAGE, lambda: clip(num_frames=2), "media_unrecognized"),
    # Videos
    "text as a video": (VIDEO, lambda: b"not a film" * 50, "media_unrecognized"),
    "half an mp4": (VIDEO, lambda: half(clip()), "media_unrecognized"),
    "an mp4 of zeros": (VIDEO, lambda: hollow(clip("libx264", num_frames=8)), "media_undecodable"),
    "a jpeg as a video": (VIDEO, lambda: encoded(corners(), "JPEG"), "media_unrecognized"),
    "a sound as a video": (VIDEO, lambda: tone("aac", "mp4"), "media_wrong_kind"),
    "a video of small frames": (
        VIDEO,
        lambda: clip("ffv1", "matroska", size=(6, 6), num_frames=2),
        "media_too_small",
    ),
    "a video of huge frames": (
        VIDEO,
        lambda: clip("mjpeg", "avi", size=(1600, 1200), pixel_format="yuvj420p", num_frames=2),
        "video_frame_size",
    ),
    "a gif clip of huge frames": (VIDEO, lambda: gif_header(60_000, 60_000), "video_frame_size"),
    "too many frames": (VIDEO, lambda: clip(num_frames=201), "video_too_many_frames"),
    "too many seconds": (
        VIDEO,
        lambda: clip("libx264", "matroska", num_frames=2, times=[0, 90_000]),
        "video_too_long",
    ),
    "too much to decode": (VIDEO, lambda: clip(num_frames=70, size=(640, 480)), "video_too_costly"),
    "too many streams": (AUDIO, lambda: many_streams(33), "media_too_many_streams"),
    "a flash video, not in the list": (VIDEO, lambda: clip("flv1", "flv"), "media_unrecognized"),
    "a clip in nut, not in the list": (VIDEO, lambda: clip("mpeg4", "nut"), "media_unrecognized"),
    # Sounds
    "text as a sound": (AUDIO, lambda: b"la la la" * 50, "media_unrecognized"),
    "a wav without samples": (AUDIO, lambda: wav(np.zeros(0, np.int16)), "*"),
    "20 milliseconds": (AUDIO, lambda: wav(np.zeros(320, np.int16)), "audio_too_short"),
    "31 seconds": (AUDIO, lambda: wav(np.zeros(31 * 16_000, np.int16)), "audio_too_long"),
    "a silent film as a sound": (AUDIO, lambda: clip(num_frames=2), "media_wrong_kind"),
    "one sample a second": (AUDIO, lambda: wav(np.zeros(100, np.int16), rate=1), "audio_sample_rate"),
    "a billion samples a second": (
        AUDIO,
        lambda: wav(np.zeros(10_000, np.int16), rate=10**9),
        "audio_sample_rate",
    ),
    "forty channels": (AUDIO, lambda: wav(np.zeros(40_000, np.int16), channels=40), "audio_channels"),
    "not a number": (AUDIO, lambda: wav(np.full(16_000, np.nan, np.float32)), "audio_not_finite"),
    "infinity": (AUDIO, lambda: wav(np.full(16_000, np.inf, np.float32)), "audio_not_finite"),
    "an au file, not in the list": (AUDIO, lambda: container_file("pcm_s16be", "au"), "media_unrecognized"),
    "a picture as a sound": (AUDIO, lambda: encoded(corners(), "PNG"), "media_unrecognized"),
    # Data URIs
    "base64 with a wrong letter": (IMAGE, lambda: "data:image/png;base64,iVBO*w0K", "media_data_uri_invalid"),
    "base64 cut short": (IMAGE, lambda: data_uri(b"12345", "image/png")[:-2], "media_data_uri_invalid"),
    "base64 with line breaks": (IMAGE, lambda: "data:image/png;base64,iVBO\nRw0K", "media_data_uri_invalid"),
    "a data uri without base64": (IMAGE, lambda: "data:image/png,abc", "media_data_uri_invalid"),
    "a data uri without a comma": (
        IMAGE,
        lambda: "data:image/png;base64" + "A" * 5000,
        "media_data_uri_invalid",
    ),
    "a data uri of text": (IMAGE, lambda: data_uri(b"hello", "text/plain"), "media_data_uri_invalid"),
    "a sound's data uri as an image": (IMAGE, lambda: data_uri(b"hello", "audio/wav"), "media_wrong_kind"),
    "an image's data uri as a sound": (AUDIO, lambda: data_uri(b"hello", "image/png"), "media_wrong_kind"),
    "a data uri over the limit": (
        IMAGE,
        lambda: data_uri(bytes((4 << 20) + 1), "image/png"),
        "media_too_many_bytes",
    ),
    # Addresses
    "http": (IMAGE, lambda: "http://example.com/cat.png", "media_url_unsupported"),
    "https": (IMAGE, lambda: "HTTPS://example.com/cat.png", "media_url_unsupported"),
    "ftp": (IMAGE, lambda: "ftp://example.com/cat.png", "media_url_unsupported"),
    "a relative path": (IMAGE, lambda: "cat.png", "media_url_unsupported"),
    "an ffmpeg protocol": (VIDEO, lambda: "concat:/etc/hosts|/etc/hosts", "media_url_unsupported"),
    "another host's file": (IMAGE, lambda: "file://example.com/etc/hosts", "media_forbidden"),
    "an empty address": (IMAGE, lambda: "", "media_url_unsupported"),
    "a file outside": (IMAGE, lambda: "/etc/hosts", "media_forbidden"),
    "a file url outside": (IMAGE, lambda: "file:///etc/hosts", "media_forbidden"),
    "an endless device": (IMAGE, lambda: "/dev/zero", "media_forbidden"),
    "a nul in a path": (IMAGE, lambda: "/a\0b", "media_forbidden"),
}


def many_streams(num_streams: int) -> bytes:
    """A file with next to no sound, many times over."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(num_streams)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return file.getvalue()


def hollow(mp4: bytes) -> bytes:
    """The same boxes, with nothing in the frames."""
    start = mp4.index(b"mdat") + 4
    end = mp4.index(b"moov") - 4
    return mp4[:start] + bytes(end - start) + mp4[end:]


@pytest.mark.parametrize("name", BAD)
def test_bad_media_is_refused_with_its_own_code(name, refused):
    kind, source, code = BAD[name]

    error = refused(kind, source())

    assert isinstance(error, BadRequest | MediaUnavailable)
    assert code in ("*", error.code)


def test_the_error_names_the_limit_that_was_met(refused):
    assert "4 MiB" in refused(IMAGE, data_uri(bytes((4 << 20) + 1), "image/png")).message
    assert "4000000 pixels" in refused(IMAGE, png_header(60_000, 60_000)).message
    assert "1×1" in refused(IMAGE, encoded(corners(1, 1), "PNG")).message
    assert "30 seconds" in refused(AUDIO, wav(np.zeros(31 * 16_000, np.int16))).message


def test_a_sound_is_never_cut_in_silence(refused):
    needs = MediaNeeds(takes=frozenset({AUDIO}), max_audio_seconds=1.0)

    assert refused(AUDIO, tone("flac", "flac", seconds=1.01, rate=16_000), needs).code == "audio_too_long"


def test_a_kind_that_the_model_does_not_take_is_refused(refused):
    needs = MediaNeeds(takes=frozenset({IMAGE}))

    assert refused(AUDIO, tone("pcm_s16le", "wav"), needs).code == "media_kind_unsupported"


class TestLocalFiles:
    def test_links_pipes_folders_and_absent_files_are_refused(self, root, tmp_path, refused):
        secret = tmp_path / "secret.png"
        secret.write_bytes(encoded(corners(), "PNG"))
        (root / "link.png").symlink_to(secret)
        (root / "linked").symlink_to(tmp_path)
        (root / "inner.png").symlink_to(root / "other.png")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(root / "socket"))
        os.mkfifo(root / "pipe")
        (root / "folder").mkdir()
        (root / "empty.png").touch()
        (root / "plain").write_text("x")

        expected = {
            "link.png": "media_symlink",
            "linked/secret.png": "media_symlink",
            "inner.png": "media_symlink",
            "pipe": "media_not_a_file",
            "folder": "media_not_a_file",
            ".": "media_not_a_file",
            "absent.png": "media_unavailable",
            "plain/below.png": "media_unavailable",
            "socket": "media_unavailable",
            "empty.png": "media_empty",
            f"../{tmp_path.name}/secret.png": "media_forbidden",
        }

        assert {name: refused(IMAGE, root / name).code for name in expected} == expected

    def test_encoded_dots_do_not_lead_out(self, root, refused):
        assert refused(IMAGE, f"file://{root}/%2e%2e/%2E%2e/etc/hosts").code == "media_forbidden"

    def test_a_root_that_is_only_the_start_of_a_name_allows_nothing(self, root, refused):
        sibling = Path(f"{root}-private")
        sibling.mkdir()
        (sibling / "a.png").write_bytes(encoded(corners(), "PNG"))

        assert refused(IMAGE, sibling / "a.png").code == "media_forbidden"

    def test_without_a_root_no_file_is_read(self, root):
        with Media(MediaLimits(), num_decoders=1) as media:
            with pytest.raises(MediaUnavailable) as caught:
                media.load(ref_to(IMAGE, root / "x.png"), NEEDS, "default")
            assert caught.value.code == "media_files_disabled"

    def test_a_file_over_the_limit_is_not_even_read(self, root, refused):
        with (root / "vast.png").open("wb") as file:
            file.truncate(1 << 40)

        error = refused(IMAGE, root / "vast.png")

        assert error.code == "media_too_many_bytes"


class TestUploads:
    def test_another_tenants_file_is_not_found(self, media, uploads, tmp_path):
        uploads["theirs", "file-theirs"] = tmp_path / "a.png"

        with pytest.raises(NotFound) as caught:
            media.load(ref_to(IMAGE, "file-theirs"), NEEDS, "default")

        assert caught.value.param == PARAM

    def test_a_file_that_was_deleted_is_unavailable(self, uploads, tmp_path, refused):
        uploads["default", "file-gone"] = tmp_path / "gone.png"

        assert refused(IMAGE, "file-gone").code == "media_unavailable"

    def test_an_endless_upload_is_cut_off_at_the_limit(self):
        limits = MediaLimits(max_image_bytes=MIB)
        with Media(
            limits, read_upload=lambda tenant_id, file_id: Path("/dev/zero").open("rb"), num_decoders=1
        ) as media:
            with pytest.raises(BadMedia) as caught:
                media.load(ref_to(IMAGE, "file-1"), NEEDS, "default")
            assert caught.value.code == "media_too_many_bytes"


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
    "hls with a url": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "hls that names itself": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile://{itself}\n",
    "ffconcat": "ffconcat version 1.0\nfile {path}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 45454 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period><AdaptationSet><Representation>"
    "<BaseURL>file://{path}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "asx": "[Reference]\nRef1=file://{path}\n",
}


@pytest.mark.parametrize("kind", [VIDEO, AUDIO])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_reads_no_other_file(name, kind, root, refused, monkeypatch):
    canary = root / "canary.ts"
    canary.write_bytes(clip("mpeg2video", "mpegts", sound=True))
    playlist = root / "list.m3u8"
    playlist.write_text(PLAYLISTS[name].format(path=canary, name=canary.name, itself=playlist))
    monkeypatch.chdir(root)

    by_path = refused(kind, playlist)
    by_data = refused(kind, playlist.read_bytes())

    assert (by_path.code, by_data.code) == ("media_unrecognized", "media_unrecognized")


def test_no_text_of_a_decoder_gets_out(refused):
    for kind, source, _ in BAD.values():
        error = refused(kind, source())
        assert not any(
            word in error.message for word in ("Errno", "0x", "object at", "Traceback", "/tmp", "avcodec")
        )
