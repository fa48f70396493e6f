"""How a manifest's bytes become numbered lines, in chunks of bounded size."""

from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

BOM = b"\xef\xbb\xbf"
_SKIP_BYTES = 1 << 20


class RawLine(NamedTuple):
    """One line that is not blank. raw: its bytes, or None where it is longer than allowed.

    line_no counts from 1 and counts blank lines too, as an editor does. offset, length: where it lies in the manifest.
    """

    line_no: int
    offset: int
    length: int
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive lines, and where to go on: a chunk never ends with blank lines unless the manifest does."""

    lines: list[RawLine]
    end_offset: int
    is_last: bool


def read_chunk(
    stream: BinaryIO, *, offset: int, line_no: int, max_lines: int, max_bytes: int, max_line_bytes: int
) -> Chunk:
    """Read lines from `stream`, which stands at `offset`, before line `line_no`, until a bound is met."""
    lines: list[RawLine] = []
    budget = max_bytes
    while len(lines) < max_lines and budget > 0:
        raw = stream.readline(max_line_bytes + 1)
        if not raw:
            return Chunk(lines, offset, is_last=True)
        length = len(raw)
        if length > max_line_bytes and raw[-1] != 10:
            length += _skip_to_newline(stream)
            lines.append(RawLine(line_no, offset, length, None))
        elif not raw.isspace() and raw.strip() != BOM:
            lines.append(RawLine(line_no, offset, length, raw))
            budget -= length
        offset += length
        line_no += 1
    return Chunk(lines, offset, is_last=False)


def _skip_to_newline(stream: BinaryIO) -> int:
    skipped = 0
    while piece := stream.readline(_SKIP_BYTES):
        skipped += len(piece)
        if piece[-1] == 10:
            break
    return skipped
