"""The same questions about media that went through files, rooms and cameras."""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from models.training.clips import compose_clip
from models.training.encodings import (
    gif_bytes,
    picture_bytes,
    read_gif,
    read_picture,
    read_sound,
    read_video,
    sound_bytes,
    video_bytes,
)
from models.training.exam import TEST_SEED, Item, Video, graded_sound
from models.training.questions import caption
from models.training.scenes import WIDE, compose, draw

PICTURES: tuple[tuple[str, tuple[int, int], str, dict[str, object]], ...] = (
    ("png 64", (64, 64), "PNG", {}),
    ("png 1024", (1024, 1024), "PNG", {}),
    ("png 320x240", (320, 240), "PNG", {}),
    ("png 480x120", (480, 120), "PNG", {}),
    ("jpeg q75 256", (256, 256), "JPEG", {"quality": 75}),
    ("jpeg q30 96", (96, 96), "JPEG", {"quality": 30}),
    ("webp q60 200", (200, 200), "WEBP", {"quality": 60}),
    ("gif 128", (128, 128), "GIF", {}),
)
VIDEOS: tuple[tuple[str, int, str, int], ...] = (
    ("h264 128", 128, "libx264", 200_000),
    ("h264 256 at 100 kbit/s", 256, "libx264", 100_000),
    ("mpeg4 160", 160, "mpeg4", 200_000),
    ("vp8 320", 320, "libvpx", 200_000),
    ("vp9 192", 192, "libvpx-vp9", 150_000),
)
SOUNDS: tuple[tuple[str, str, str, int, int], ...] = (
    ("wav 8 kHz", "wav", "pcm_s16le", 8_000, 0),
    ("wav 44.1 kHz", "wav", "pcm_s16le", 44_100, 0),
    ("flac 48 kHz", "flac", "flac", 48_000, 0),
    ("mp3 64 kbit/s", "mp3", "libmp3lame", 44_100, 64_000),
    ("mp3 22 kHz, 32 kbit/s", "mp3", "libmp3lame", 22_050, 32_000),
    ("ogg opus", "ogg", "libopus", 48_000, 48_000),
    ("aac 96 kbit/s", "adts", "aac", 44_100, 96_000),
)


def robust(per_task: int, seed: int = TEST_SEED + 1) -> Iterator[Item]:
    """`per_task` items for every way to spoil them."""
    rng = np.random.default_rng(seed)
    yield from _pictures(rng, per_task)
    yield from _videos(rng, per_task)
    yield from _sounds(rng, per_task)


def _pictures(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for task, size, fmt, options in PICTURES:
        for _ in range(per_task):
            scene = compose(rng, int(rng.integers(1, 4)), WIDE, size=size)
            picture = read_picture(picture_bytes(draw(scene), fmt, **options))
            yield _item(f"image, {task}", picture, "Describe this image.", caption(scene) or "")


def _videos(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for task, side, codec, bit_rate in VIDEOS:
        for _ in range(per_task):
            clip = compose_clip(rng, WIDE, size=(side, side))
            video = read_video(video_bytes(Video(clip.frames(24), 12.0), codec, bit_rate))
            yield _item(f"video, {task}", video, "Describe this video.", clip.caption)
    for _ in range(per_task):
        clip = compose_clip(rng, WIDE, size=(96, 96))
        video = read_gif(gif_bytes(Video(clip.frames(24), 12.5)))
        yield _item("video, gif 96", video, "Describe this video.", clip.caption)
    for num_frames, fps in ((2, 1.0), (3, 2.0), (4, 12.0), (60, 1.0)):
        for _ in range(per_task):
            clip = compose_clip(rng, WIDE, size=(96, 96))
            video = Video(clip.frames(num_frames), fps)
            yield _item(f"video, {num_frames} frames", video, "Describe this video.", clip.caption)


def _sounds(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    def noisy(samples: np.ndarray) -> np.ndarray:
        return samples + rng.normal(0, 0.05, len(samples)).astype(np.float32)

    def loud(samples: np.ndarray, peak: float) -> np.ndarray:
        return (samples * peak / max(float(np.abs(samples).max()), 1e-3)).astype(np.float32)

    def padded(samples: np.ndarray) -> np.ndarray:
        return np.concatenate([samples, rng.normal(0, 1e-4, 16_000).astype(np.float32)])

    for task, container, codec, rate, bit_rate in SOUNDS:
        for _ in range(per_task):
            sound = graded_sound(rng)
            if sound.highest_hz > 0.4 * rate and sound.kind != "noise":
                continue
            samples = read_sound(sound_bytes(sound.samples, container, codec, rate, bit_rate))
            yield _item(f"audio, {task}", samples, "What do you hear?", sound.answer)
    rooms: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
        ("noisy room (-26 dB)", lambda x: noisy(loud(x, 0.3))),
        ("quiet (-20 dB)", lambda x: loud(x, 0.1)),
        ("quiet (-40 dB)", lambda x: loud(x, 0.01)),
        ("1 s of silence after it", padded),
    )
    for task, spoil in rooms:
        for _ in range(per_task):
            sound = graded_sound(rng)
            # Silence in a noisy room is noise, and it has no level to lower.
            if sound.kind != "silence" or task.startswith("1 s"):
                yield _item(f"audio, {task}", spoil(sound.samples), "What do you hear?", sound.answer)


def _item(task: str, medium: Image.Image | Video | np.ndarray, question: str, answer: str) -> Item:
    return Item(task, (medium,), question, answer)
