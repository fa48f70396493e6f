"""Cursors: what we say is what we read, and nothing else."""

import pytest

from service.contract.result_cursors import ResultCursor
from service.errors import BadRequest

NOT_OURS = (
    "nonsense",
    "1",
    "1.",
    ".1",
    "1.2,",
    ",",
    "-1.2",
    "1.-2",
    "1.2;3.4",
    "y.3",
    "1.1 ",
    "1." + "9" * 19,
)


def test_a_cursor_is_read_back_as_it_was_said() -> None:
    for said in ("", "0.1", "3.120,17.98", "3.120,17.98,x.40", "x.7"):
        assert str(ResultCursor.parse(said)) == said
    assert ResultCursor.parse(None) == ResultCursor()


def test_a_cursor_moves_one_line_at_a_time() -> None:
    cursor = ResultCursor().at(17, 1).at(3, 5).at(17, 2).at_line(9)

    assert str(cursor) == "3.5,17.2,x.9"


@pytest.mark.parametrize("text", [*NOT_OURS, ",".join(["1.1"] * 900)])
def test_a_cursor_that_we_did_not_give_out_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        ResultCursor.parse(text)
    assert refusal.value.param == "cursor"
