"""Values that cross to another process in a memory file: arrays and tensors lie in it as they are, and are mapped."""

import io
import mmap
import os
import pickle
import struct
from typing import Any

import torch

ALIGNMENT = 64
_HEAD = struct.Struct("<QQ")


def pack(value: object) -> int:
    """Write a value into a new memory file, whose descriptor is the caller's; large buffers without holding the GIL."""
    buffers: list[pickle.PickleBuffer] = []
    body = io.BytesIO()
    _Pickler(body, protocol=5, buffer_callback=buffers.append).dump(value)
    raws = [buffer.raw() for buffer in buffers]
    sizes = pickle.dumps([raw.nbytes for raw in raws])
    fd = os.memfd_create("packet", os.MFD_CLOEXEC)
    try:
        offset = _write(fd, _HEAD.pack(len(sizes), body.tell()) + sizes + body.getvalue())
        for raw in raws:
            os.lseek(fd, offset := _aligned(offset), os.SEEK_SET)
            offset += _write(fd, raw)
        os.ftruncate(fd, max(offset, 1))
    except BaseException:
        os.close(fd)
        raise
    return fd


def unpack(fd: int) -> Any:
    """The value in a memory file that one of our own processes wrote. Its buffers are ours to write to."""
    data = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY))
    num_sizes, num_body = _HEAD.unpack_from(data)
    start = _HEAD.size + num_sizes
    offset = start + num_body
    buffers = []
    for size in pickle.loads(data[_HEAD.size : start]):
        offset = _aligned(offset)
        buffers.append(data[offset : offset + size])
        offset += size
    return pickle.loads(data[start : start + num_body], buffers=buffers)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        flat: Any = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        return _tensor, (
            pickle.PickleBuffer(flat),
            str(value.dtype).removeprefix("torch."),
            tuple(value.shape),
        )


def _tensor(buffer: memoryview, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    kind = getattr(torch, dtype)
    if not len(buffer):
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(buffer, dtype=kind).reshape(shape)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _write(fd: int, data: bytes | memoryview) -> int:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data) if isinstance(data, bytes) else data.nbytes
