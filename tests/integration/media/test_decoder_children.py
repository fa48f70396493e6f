"""The children that decode: one that dies or hangs fails one job and is replaced; none outlives its worker."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from media_samples import NEEDS, clip, corners, encoded, png_header, ref_to, tone, wav

from service.contract.media import MediaKind
from service.errors import BadMedia, SluiceError, Unavailable
from workers.media.limits import MIB, MediaLimits
from workers.media.media import Media

IMAGE, VIDEO, AUDIO = MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.AUDIO
PICTURE = encoded(corners(), "PNG")


def load_picture(media: Media) -> tuple[int, int]:
    return media.load(ref_to(IMAGE, PICTURE), NEEDS, "default").original_size


def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def one() -> Iterator[Media]:
    """One decoder with a short deadline, to be harmed."""
    with Media(MediaLimits(decode_seconds=3.0), num_decoders=1) as media:
        yield media


def stopped_mid_decode(media: Media, threads: ThreadPoolExecutor) -> tuple[int, Future[object]]:
    """A child that holds a file and does not answer, and the load that waits for it."""
    [pid] = media.decoder_pids()
    os.kill(pid, signal.SIGSTOP)
    load = threads.submit(load_picture, media)
    until(lambda: media.decoder_pids() == [])
    return pid, load


def test_a_child_killed_while_decoding_fails_that_job_and_no_other(one):
    with ThreadPoolExecutor(1) as threads:
        pid, load = stopped_mid_decode(one, threads)
        os.kill(pid, signal.SIGKILL)

        with pytest.raises(BadMedia) as caught:
            load.result()

    assert caught.value.code == "media_decode_crashed"
    assert load_picture(one) == (96, 64)
    assert one.decoder_pids() != [pid]


def test_a_child_that_hangs_is_killed_at_the_deadline_and_replaced(one):
    with ThreadPoolExecutor(1) as threads:
        pid, load = stopped_mid_decode(one, threads)

        with pytest.raises(BadMedia) as caught:
            load.result()

    assert caught.value.code == "media_decode_timeout"
    assert "3 seconds" in caught.value.message
    until(lambda: not runs(pid))
    assert load_picture(one) == (96, 64)


def test_a_decode_that_takes_too_long_is_ended():
    noise = (np.random.default_rng(i).integers(0, 255, (480, 640, 3), np.uint8) for i in range(60))
    heavy = clip("mjpeg", "avi", frames=noise, size=(640, 480), pixel_format="yuvj420p")
    with Media(MediaLimits(decode_seconds=0.02), num_decoders=1) as media:
        with pytest.raises(BadMedia) as caught:
            media.load(ref_to(VIDEO, heavy), NEEDS, "default")
        assert caught.value.code == "media_decode_timeout"


def test_a_child_that_died_while_idle_harms_no_job(one):
    [pid] = one.decoder_pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not runs(pid))

    assert load_picture(one) == (96, 64)


def test_a_dead_fork_server_is_started_again(one):
    os.kill(one.server_pid, signal.SIGKILL)
    [pid] = one.decoder_pids()
    until(lambda: not runs(pid))

    assert load_picture(one) == (96, 64)


def test_a_job_whose_server_died_may_be_tried_again(one):
    with ThreadPoolExecutor(1) as threads:
        _, load = stopped_mid_decode(one, threads)
        os.kill(one.server_pid, signal.SIGKILL)

        with pytest.raises(Unavailable) as caught:
            load.result()

    assert caught.value.retryable
    assert load_picture(one) == (96, 64)


def test_too_much_memory_fails_that_job_alone():
    limits = MediaLimits(max_memory_bytes=700 * MIB, max_image_pixels=200_000_000)
    vast = png_header(12_000, 12_000)
    with Media(limits, num_decoders=1) as media:
        with pytest.raises(BadMedia) as caught:
            media.load(ref_to(IMAGE, vast), NEEDS, "default")
        assert caught.value.code == "media_decode_memory"
        assert load_picture(media) == (96, 64)


def test_decoded_media_cannot_grow_past_its_limit():
    limits = MediaLimits(max_decoded_bytes=MIB)
    with Media(limits, num_decoders=1) as media:
        with pytest.raises(BadMedia) as caught:
            media.load(ref_to(IMAGE, encoded(corners(1000, 1000), "PNG")), NEEDS, "default")
        assert caught.value.code == "media_decoded_too_large"
        video = media.load(
            ref_to(VIDEO, clip("mjpeg", "avi", size=(640, 480), pixel_format="yuvj420p")), NEEDS, "default"
        )
        assert len(video.frames) == 8
        assert video.num_bytes <= MIB


def test_many_threads_share_few_children(media):
    sources = [
        (IMAGE, PICTURE),
        (AUDIO, tone("flac", "flac", seconds=0.2)),
        (VIDEO, clip(num_frames=4)),
        (IMAGE, b"bad"),
    ]

    def load(index: int) -> str:
        kind, source = sources[index % 4]
        try:
            return type(media.load(ref_to(kind, source), NEEDS, "default")).__name__
        except BadMedia as error:
            return str(error.code)

    with ThreadPoolExecutor(6) as threads:
        seen = list(threads.map(load, range(80)))

    assert seen == ["DecodedImage", "DecodedAudio", "DecodedVideo", "media_unrecognized"] * 20
    assert len(media.decoder_pids()) == 2


def test_neither_good_nor_bad_media_leaves_a_descriptor_open(media, root):
    (root / "some.png").write_bytes(PICTURE)

    def everything() -> None:
        for kind, source in (
            (IMAGE, PICTURE), (IMAGE, b"bad"), (IMAGE, root / "some.png"), (IMAGE, root / "none.png"), (IMAGE, root),
            (VIDEO, clip(num_frames=2)), (AUDIO, wav(np.zeros(100, np.int16))), (AUDIO, wav(np.zeros(1000, np.int16))),
        ):  # fmt: skip
            with suppress(SluiceError):
                media.load(ref_to(kind, source), NEEDS, "default")

    everything()
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        everything()

    assert len(set(os.listdir("/proc/self/fd"))) == len(before)


def test_the_pixels_stay_when_the_decoders_are_gone():
    with Media(MediaLimits(), num_decoders=1) as media:
        image = media.load(ref_to(IMAGE, PICTURE), NEEDS, "default")

    np.testing.assert_array_equal(image.pixels, np.asarray(corners()))
    image.pixels[:] = 0


def test_closing_ends_every_process_and_refuses_what_comes_later():
    media = Media(MediaLimits(), num_decoders=2)
    media.start()
    pids = [media.server_pid, *media.decoder_pids()]
    assert len(pids) == 3

    media.close()

    until(lambda: not any(runs(pid) for pid in pids))
    with pytest.raises(Unavailable):
        load_picture(media)


WORKER = """
import sys, time
from workers.media.limits import MediaLimits
from workers.media.media import Media
media = Media(MediaLimits(), num_decoders=2)
media.start()
print(media.server_pid, *media.decoder_pids(), flush=True)
time.sleep(60)
"""


def test_no_decoder_outlives_a_killed_worker():
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    ) as worker:
        assert worker.stdout
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 3
        worker.kill()

    until(lambda: not any(runs(pid) for pid in pids))


def test_the_threads_that_started_the_decoders_may_end():
    """A death signal that is tied to the starting thread would kill the server with it."""
    media = Media(MediaLimits(), num_decoders=1)
    starter = threading.Thread(target=media.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.1)
        assert load_picture(media) == (96, 64)
    finally:
        media.close()
