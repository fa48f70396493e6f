"""Clips of every container: the right frames, in order, upright, with their true number and time."""

import io

import av
import numpy as np
import pytest
from media_samples import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    clip,
    corners,
    counting,
    encoded,
    grey_of,
    seen_corners,
    turned,
)
from PIL import Image

from service.contract.media import MediaKind, MediaNeeds
from service.errors import BadMedia
from workers.media.decoded import DecodedVideo

VIDEO = MediaKind.VIDEO

CLIPS = {
    "h264 in mp4": ("libx264", "mp4", "yuv420p"),
    "h265 in mp4": ("libx265", "mp4", "yuv420p"),
    "av1 in mp4": ("libsvtav1", "mp4", "yuv420p"),
    "mpeg-4 in mov": ("mpeg4", "mov", "yuv420p"),
    "h264 in mkv": ("libx264", "matroska", "yuv420p"),
    "ten bits in mkv": ("libx265", "matroska", "yuv420p10le"),
    "ffv1 in mkv": ("ffv1", "matroska", "yuv420p"),
    "vp8 in webm": ("libvpx", "webm", "yuv420p"),
    "vp9 in webm": ("libvpx-vp9", "webm", "yuv420p"),
    "mpeg-4 in avi": ("mpeg4", "avi", "yuv420p"),
    "motion jpeg in avi": ("mjpeg", "avi", "yuvj420p"),
    "mpeg-2 in ts": ("mpeg2video", "mpegts", "yuv420p"),
    "h264 in ts": ("libx264", "mpegts", "yuv420p"),
}


def greys(decoded: DecodedVideo) -> list[int]:
    return [int(frame[20:28, 28:36].mean()) for frame in decoded.frames]


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_gives_the_frames_that_uniform_sampling_names(name, load):
    codec, format, pixel_format = CLIPS[name]

    decoded = load(VIDEO, clip(codec, format, pixel_format=pixel_format, num_frames=24, fps=12))

    assert decoded.frame_indices == (0, 3, 6, 9, 12, 15, 18, 21)
    assert greys(decoded) == pytest.approx([grey_of(i) for i in decoded.frame_indices], abs=4)
    assert decoded.frames.shape == (8, 48, 64, 3)
    assert decoded.frames.dtype == np.uint8
    assert decoded.total_frames == 24
    assert decoded.seconds == pytest.approx(2.0, rel=0.01)
    assert decoded.fps == pytest.approx(12.0, rel=0.01)
    assert decoded.num_bytes == decoded.frames.nbytes


@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 9, 100])
def test_every_length_is_sampled_by_the_rule_the_models_learned(num_frames, load):
    decoded = load(VIDEO, clip(num_frames=num_frames))

    count = min(8, num_frames)
    assert decoded.total_frames == num_frames
    assert decoded.original_size == (64, 48)
    assert decoded.frame_indices == tuple(i * num_frames // count for i in range(count))
    assert greys(decoded) == pytest.approx([grey_of(i) for i in decoded.frame_indices], abs=6)


@pytest.mark.parametrize(
    ("wishes", "sampled"),
    [({"num_frames": 3}, 3), ({"num_frames": 50}, 8), ({"fps": 2.0}, 4), ({"fps": 0.1}, 1)],
)
def test_a_request_chooses_how_many_frames_up_to_the_models_most(wishes, sampled, load):
    assert len(load(VIDEO, clip(num_frames=24, fps=12), **wishes).frames) == sampled


def test_a_model_that_samples_by_time_gets_its_frames_per_second(load):
    needs = MediaNeeds(takes=frozenset({VIDEO}), num_frames=32, video_fps=4.0)

    assert load(VIDEO, clip(num_frames=24, fps=12), needs).frame_indices == (0, 3, 6, 9, 12, 15, 18, 21)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_clip_is_turned_as_the_phone_was_held(degrees, load):
    stored = np.array(corners(96, 64).rotate(degrees, expand=True))
    height, width, _ = stored.shape
    phone = turned(clip(frames=iter([stored] * 4), size=(width, height)), degrees)

    decoded = load(VIDEO, phone)

    assert decoded.frames.shape == (4, 64, 96, 3)
    assert decoded.original_size == (96, 64)
    difference = np.array(seen_corners(decoded.frames[0])) - np.array([RED, GREEN, BLUE, YELLOW])
    assert np.abs(difference).max() < 30


def test_a_gif_is_a_clip_with_its_own_timing(load):
    frames = [Image.new("RGB", (64, 48), (grey_of(i),) * 3) for i in range(10)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=[100] * 5 + [300] * 5)

    decoded = load(VIDEO, gif)

    assert decoded.total_frames == 10
    assert decoded.seconds == pytest.approx(2.0)
    assert decoded.fps == pytest.approx(5.0)
    assert greys(decoded) == pytest.approx([grey_of(i) for i in decoded.frame_indices], abs=3)


def test_what_is_transparent_in_a_gif_lies_on_white(load):
    clear = Image.new("P", (64, 48), 0)
    clear.putpalette([0, 0, 0, 255, 0, 0])
    other = clear.copy()
    other.putpixel((0, 0), 1)
    gif = encoded(clear, "GIF", save_all=True, append_images=[other], transparency=0, disposal=2)

    assert (load(VIDEO, gif).frames[:, 10:, 10:] == 255).all()


def test_frames_that_come_at_uneven_times_are_counted_and_timed(load):
    times = [0, 40, 80, 1000, 1040, 1500]

    decoded = load(VIDEO, clip("libx264", "matroska", num_frames=6, times=times))

    assert decoded.total_frames == 6
    assert decoded.seconds == pytest.approx(1.54, abs=0.1)
    assert decoded.frame_indices == tuple(range(6))


def test_a_large_clip_is_scaled_to_what_the_request_wants(load):
    decoded = load(VIDEO, clip(num_frames=4, size=(640, 480)), max_pixels=20_000)

    _, height, width, _ = decoded.frames.shape
    assert 19_000 < width * height <= 20_000
    assert width / height == pytest.approx(4 / 3, rel=0.02)


def test_a_clip_with_sound_gives_its_pictures(load):
    assert load(VIDEO, clip(num_frames=12, sound=True)).total_frames == 12


def test_packets_without_a_picture_do_not_count(load):
    """Packets are counted first; here there are more of them than pictures, so that the count must be mended."""
    decoded = load(VIDEO, clip_with_empty_packets(num_frames=20, after=(3, 8, 12)))

    assert decoded.total_frames == 20
    assert decoded.frame_indices == tuple(i * 20 // 8 for i in range(8))
    assert len(decoded.frames) == 8


def clip_with_empty_packets(num_frames: int, after: tuple[int, ...]) -> bytes:
    """MPEG-4 with placeholders among its packets that say: nothing is coded here."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        moment = 0
        for index, pixels in enumerate(counting(num_frames, 64, 48)):
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                packet.pts = packet.dts = moment
                time_base, moment = packet.time_base, moment + 1
                container.mux(packet)
                if index in after:
                    empty = av.Packet(bytes([0, 0, 1, 0xB6, 0x51, 0x9F]))
                    empty.stream, empty.pts, empty.dts, empty.time_base = stream, moment, moment, time_base
                    container.mux(empty)
                    moment += 1
    return file.getvalue()


def test_a_recording_that_broke_off_counts_only_what_it_holds(load):
    whole = clip("libx264", "matroska", num_frames=120)

    decoded = load(VIDEO, whole[: len(whole) * 7 // 10])

    assert 40 < decoded.total_frames < 110
    assert decoded.seconds == pytest.approx(decoded.total_frames / 12, abs=0.2)
    assert decoded.frame_indices == tuple(i * decoded.total_frames // 8 for i in range(8))


@pytest.mark.parametrize("name", CLIPS)
def test_an_excerpt_is_the_clip_that_lies_between_its_seconds(name, load):
    codec, format, pixel_format = CLIPS[name]
    whole = clip(codec, format, pixel_format=pixel_format, num_frames=24, fps=12)

    decoded = load(VIDEO, whole, start=0.5, end=1.0)

    assert greys(decoded) == pytest.approx([grey_of(i) for i in range(6, 12)], abs=4)
    assert decoded.frame_indices == tuple(range(6))
    assert (decoded.total_frames, decoded.seconds) == (6, pytest.approx(0.5))
    assert decoded.fps == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize(
    ("wishes", "frames"),
    [
        ({"start": 1.0}, range(12, 24)),
        ({"end": 1.0}, range(12)),
        ({"start": 1.5, "end": 100.0}, range(18, 24)),
        ({"start": 0.0, "end": 0.01}, [0]),
        ({"start": 0.51, "end": 0.52}, [6]),
        ({"start": 1.0, "end": 2.0, "fps": 4}, [12, 15, 18, 21]),
        ({"start": 1.0, "num_frames": 2}, [12, 18]),
    ],
    ids=str,
)
def test_the_frames_of_an_excerpt_are_those_that_show_in_it(load, wishes, frames):
    wishes = {"num_frames": 24} | wishes if "fps" not in wishes else wishes
    decoded = load(
        VIDEO, clip(num_frames=24, fps=12), MediaNeeds(frozenset([VIDEO]), num_frames=64), **wishes
    )
    assert greys(decoded) == pytest.approx([grey_of(i) for i in frames], abs=4)


def test_an_excerpt_that_begins_after_the_clip_is_refused_with_its_length(load):
    with pytest.raises(BadMedia, match="2 seconds long") as refused:
        load(VIDEO, clip(num_frames=24, fps=12), start=2.5)
    assert refused.value.code == "media_start_beyond_end"
