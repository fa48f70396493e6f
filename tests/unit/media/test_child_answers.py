"""A child has read a stranger's bytes: whatever it answers, the worker gets media or one refusal."""

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from service.contract.media import MediaKind
from workers.media.limits import MediaLimits
from workers.media.media import decoded
from workers.media.pool import read_answer
from workers.media.refusals import Refusal

LIMITS = MediaLimits(max_decoded_bytes=1 << 16)
GOOD = {"shape": [4, 5, 3], "original_size": [5, 4]}
CLIP = {
    "shape": [2, 4, 5, 3],
    "original_size": [10, 8],
    "frame_indices": [0, 1],
    "fps": 2.0,
    "total_frames": 2,
    "seconds": 1.0,
}


@pytest.fixture
def memory() -> Iterator[int]:
    """A child's memory file with 60 bytes."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(range(60)))
    yield fd
    os.close(fd)


def test_a_true_answer_becomes_pixels(memory):
    image = decoded(MediaKind.IMAGE, read_answer(json.dumps(GOOD).encode(), memory, LIMITS))

    np.testing.assert_array_equal(image.pixels.ravel(), np.arange(60))


def test_the_childs_later_writes_do_not_reach_the_worker(memory):
    image = decoded(MediaKind.IMAGE, read_answer(json.dumps(GOOD).encode(), memory, LIMITS))

    with pytest.raises(PermissionError):
        os.pwrite(memory, b"x" * 60, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 0)
    assert image.pixels[0, 0, 1] == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"[" * 60_000,
        b"\xff\xfe",
        json.dumps({"refused": "no_such_code", "facts": {}}).encode(),
        json.dumps({"refused": "media_too_small", "facts": {}}).encode(),
        json.dumps(
            {"refused": "media_too_small", "facts": {"width": "<script>", "height": 1, "limit_pixels": 2}}
        ).encode(),
        json.dumps({"refused": ["media_empty"], "facts": {}}).encode(),
        json.dumps({"refused": "media_empty"}).encode(),
    ],
)
def test_nonsense_counts_as_a_crash(answer, memory):
    with pytest.raises(Refusal) as caught:
        decoded(MediaKind.IMAGE, read_answer(answer, memory, LIMITS))

    assert caught.value.code == "media_decode_crashed"


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [4, 5, 4]},
        {"shape": [40, 50, 3]},
        {"shape": [-4, -5, 3]},
        {"shape": [0, 5, 3]},
        {"shape": [20, 3]},
        {"original_size": [1]},
        {"original_size": None},
        {"original_size": [float("inf"), 1]},
    ],
)
def test_a_picture_whose_facts_do_not_fit_counts_as_a_crash(lie, memory):
    with pytest.raises(Refusal) as caught:
        decoded(MediaKind.IMAGE, read_answer(json.dumps(GOOD | lie).encode(), memory, LIMITS))

    assert caught.value.code == "media_decode_crashed"


@pytest.mark.parametrize(
    "lie", [{"frame_indices": [0]}, {"fps": float("nan")}, {"seconds": None}, {"total_frames": "x"}]
)
def test_a_clip_whose_facts_do_not_fit_counts_as_a_crash(lie):
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(120))
    try:
        assert decoded(MediaKind.VIDEO, read_answer(json.dumps(CLIP).encode(), fd, LIMITS)).num_bytes == 120
        with pytest.raises(Refusal) as caught:
            decoded(MediaKind.VIDEO, read_answer(json.dumps(CLIP | lie).encode(), fd, LIMITS))
    finally:
        os.close(fd)

    assert caught.value.code == "media_decode_crashed"


def test_a_sound_of_half_a_sample_counts_as_a_crash(memory):
    os.ftruncate(memory, 59)
    with pytest.raises(Refusal) as caught:
        decoded(MediaKind.AUDIO, read_answer(b'{"shape": [15], "rate": 16000}', memory, LIMITS))

    assert caught.value.code == "media_decode_crashed"


def test_an_empty_or_a_vast_memory_file_counts_as_a_crash(memory):
    for size in (0, LIMITS.max_decoded_bytes + 1):
        fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        with pytest.raises(Refusal) as caught:
            read_answer(json.dumps(GOOD).encode(), fd, LIMITS)
        os.close(fd)
        assert caught.value.code == "media_decode_crashed"


def test_a_refusal_keeps_its_figures(memory):
    answer = {"refused": "media_too_small", "facts": {"width": 1, "height": 2, "limit_pixels": 8}}

    with pytest.raises(Refusal) as caught:
        read_answer(json.dumps(answer).encode(), memory, LIMITS)

    assert "1×2" in caught.value.sentence()
