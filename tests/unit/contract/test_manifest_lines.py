"""How a manifest falls into numbered lines and chunks."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.manifest_lines import Chunk, RawLine, read_chunk


def read(data: bytes, **limits: int) -> Chunk:
    bounds = {"max_lines": 100, "max_bytes": 1 << 20, "max_line_bytes": 1000, **limits}
    return read_chunk(io.BytesIO(data), offset=0, line_no=1, **bounds)


def test_blank_lines_are_counted_but_not_returned() -> None:
    chunk = read(b"a\n\n  \r\nb\n\n")

    assert [(line.line_no, line.offset, line.raw) for line in chunk.lines] == [(1, 0, b"a\n"), (4, 7, b"b\n")]
    assert chunk.is_last


def test_the_last_line_needs_no_newline() -> None:
    assert read(b"a\nb").lines[-1] == RawLine(2, 2, 1, b"b")


def test_a_manifest_of_nothing_but_a_byte_order_mark_is_empty() -> None:
    assert read(b"\xef\xbb\xbf\r\n") == Chunk([], 5, is_last=True)


def test_a_line_that_is_too_long_is_skipped_without_being_read() -> None:
    chunk = read(b"a\n" + b"x" * 3000 + b"\nb\n", max_line_bytes=1000)

    assert chunk.lines == [RawLine(1, 0, 2, b"a\n"), RawLine(2, 2, 3001, None), RawLine(3, 3003, 2, b"b\n")]


def test_a_chunk_ends_at_its_byte_budget() -> None:
    chunk = read(b"aaaa\nbbbb\ncccc\n", max_bytes=6)

    assert [line.line_no for line in chunk.lines] == [1, 2]
    assert (chunk.end_offset, chunk.is_last) == (10, False)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"", b" ", b"a", b"bb", b"y" * 40]), max_size=12),
    st.integers(1, 4),
    st.integers(1, 50),
)
def test_chunks_together_are_the_manifest_however_it_is_cut(
    lines: list[bytes], max_lines: int, max_bytes: int
) -> None:
    data = b"\n".join(lines)
    whole = read(data, max_line_bytes=20)
    stream, offset, line_no, pieces = io.BytesIO(data), 0, 1, []
    while True:
        chunk = read_chunk(
            stream,
            offset=offset,
            line_no=line_no,
            max_lines=max_lines,
            max_bytes=max_bytes,
            max_line_bytes=20,
        )
        pieces += chunk.lines
        if chunk.is_last:
            break
        offset = chunk.end_offset
        line_no = chunk.lines[-1].line_no + 1
        assert stream.tell() == offset

    assert pieces == whole.lines
