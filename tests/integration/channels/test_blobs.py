"""What a blob promises: whole or not at all, and a sentence when the disk is full."""

import errno
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from service.channels.blobs import Blobs, chunks_of
from service.errors import NotFound, SluiceError, StorageFull, TooLarge


@pytest.fixture(params=["file", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs(f"file://{tmp_path}/blobs" if request.param == "file" else f"memory://{uuid4().hex}")


def names(blobs: Blobs) -> list[str]:
    return [Path(name).name for name in blobs._files.find(blobs._root)]


def test_a_blob_is_read_back_whole_and_in_parts(blobs: Blobs) -> None:
    size = blobs.write("files/a", [b"hello ", b"world"])

    assert size == blobs.size("files/a") == 11
    assert blobs.read_range("files/a", 6, 5) == b"world"
    with blobs.open("files/a", offset=3) as stream:
        assert b"".join(chunks_of(stream, 4)) == b"lo world"


def test_a_blob_can_be_read_line_by_line_with_a_limit(blobs: Blobs) -> None:
    blobs.write("m", [b"one\ntwo\nthree"])

    with blobs.open("m", offset=4) as stream:
        assert [stream.readline(100), stream.readline(2), stream.readline()] == [b"two\n", b"th", b"ree"]


def test_writing_again_replaces_the_blob(blobs: Blobs) -> None:
    blobs.write("a", [b"first"])
    blobs.write("a", [b"second"])

    assert blobs.read_range("a", 0, 100) == b"second"
    assert names(blobs) == ["a"]


def test_an_upload_over_the_limit_leaves_nothing_behind(blobs: Blobs) -> None:
    with pytest.raises(TooLarge):
        blobs.write("a", iter([b"12345", b"67890"]), max_bytes=9)

    assert names(blobs) == []
    assert blobs.write("a", [b"123456789"], max_bytes=9) == 9


def test_a_source_that_breaks_off_leaves_nothing_behind(blobs: Blobs) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the client went away")

    with pytest.raises(ValueError, match="went away"):
        blobs.write("a", broken())

    assert names(blobs) == []


def test_a_blob_that_is_gone_is_not_found(blobs: Blobs) -> None:
    blobs.write("a", [b"x"])
    blobs.delete("a")
    blobs.delete("a")

    with pytest.raises(NotFound):
        blobs.open("a")
    with pytest.raises(NotFound):
        blobs.size("a")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/."])
def test_a_key_cannot_leave_the_folder(blobs: Blobs, key: str) -> None:
    with pytest.raises(SluiceError):
        blobs.write(key, [b"x"])


def test_a_full_disk_is_told_and_leaves_nothing_behind(blobs: Blobs) -> None:
    def full() -> Iterator[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull):
        blobs.write("a", full())

    assert names(blobs) == []


def test_a_file_size_limit_of_the_system_is_a_full_disk(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from service.channels.blobs import Blobs\n"
        "from service.errors import StorageFull\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        f"    Blobs('file://{tmp_path}/blobs').write('a', [b'x' * (1 << 19)] * 4)\n"
        "except StorageFull:\n"
        "    sys.exit(42)\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 42
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_large_blob_passes_through_little_memory(tmp_path: Path) -> None:
    blobs = Blobs(f"file://{tmp_path}/blobs")
    tracemalloc.start()
    blobs.write("large", (bytes(1 << 20) for _ in range(64)))
    with blobs.open("large") as stream:
        assert sum(len(chunk) for chunk in chunks_of(stream)) == 64 << 20
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 8 << 20


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    blobs = Blobs(f"file://{tmp_path}/blobs")
    code = (
        "import os, signal\n"
        "from service.channels.blobs import Blobs\n"
        "def chunks():\n"
        "    yield b'half'\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"Blobs('file://{tmp_path}/blobs').write('files/a', chunks())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL

    assert blobs.sweep_partial() == 0
    assert blobs.sweep_partial(quiet_seconds=0) == 1
    assert names(blobs) == []


def test_only_a_local_blob_has_a_path(tmp_path: Path) -> None:
    local = Blobs(f"file://{tmp_path}/blobs")
    local.write("files/a", [b"x"])

    path = local.path("files/a")
    assert path is not None
    assert path.read_bytes() == b"x"
    assert Blobs("memory://elsewhere").path("a") is None
