"""A listener is told everything once, whichever attempts and choices it comes from."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.actions.told_chat import ToldChat
from service.contract.replies import choice_body, told_in_choice
from service.contract.streams import Delta
from service.errors import WorkerLost

ENTRIES = tuple({"token": letter, "logprob": -0.5} for letter in "abcdef")
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def heard(told: ToldChat, deltas: Iterable[Delta]) -> list[Delta]:
    return [new for delta in deltas if (new := told.new_in(delta)) is not None]


def test_deltas_of_several_choices_are_told_as_they_come() -> None:
    deltas = [Delta("a", 1), Delta("b", 0), Delta("c", 1)]
    assert heard(ToldChat(), deltas) == deltas


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=5), st.lists(st.integers(0, 6), max_size=5))
def test_a_second_attempt_goes_on_where_the_first_was_cut_off(first: list[int], second: list[int]) -> None:
    told = ToldChat()

    def attempt(cuts: list[int], until: int) -> list[Delta]:
        ends = sorted({*(cut for cut in cuts if cut < until), until})
        pieces = [(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True) if end > begin]
        return [Delta("abcdef"[begin:end], 2, ENTRIES[begin:end]) for begin, end in pieces]

    news = heard(told, attempt(first, until=max(first, default=0)))
    told.begin_attempt()
    news += heard(told, attempt(second, until=6))

    assert "".join(delta.text for delta in news) == "abcdef"
    assert tuple(entry for delta in news for entry in delta.logprobs) == ENTRIES


def test_an_attempt_that_says_something_else_is_never_joined() -> None:
    told = ToldChat()
    told.new_in(Delta("A red"))
    told.begin_attempt()
    assert told.new_in(Delta("A")) is None
    with pytest.raises(WorkerLost):
        told.new_in(Delta(" blue"))


def test_the_rest_of_a_reply_is_what_no_delta_has_carried() -> None:
    told = ToldChat()
    heard(told, [Delta("ab", 0, ENTRIES[:2]), Delta("all", 1)])
    choices = [
        choice_body(index=0, text="abc", finish_reason="stop", logprobs=ENTRIES[:3]),
        choice_body(index=1, text="all", finish_reason="stop"),
        choice_body(index=2, text="", finish_reason="tool_calls", tool_calls=[CALL]),
    ]

    assert list(told.rest_of(map(told_in_choice, choices))) == [
        Delta("c", 0, ENTRIES[2:3]),
        Delta("", 2, (), (CALL,)),
    ]


def test_a_reply_that_contradicts_what_was_told_is_an_error() -> None:
    told = ToldChat()
    told.new_in(Delta("A red disc"))
    with pytest.raises(WorkerLost):
        list(told.rest_of([told_in_choice(choice_body(index=0, text="A blue disc", finish_reason="stop"))]))
