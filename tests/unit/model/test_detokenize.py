"""Detokenizer and StopChecker: what a client sees while tokens come in."""

import pytest
from family_processors import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.model.prompting.detokenize import MAX_HELD_TOKENS, Detokenizer, StopChecker
from workers.model.special_tokens import special_ids

TOKENIZER = byte_tokenizer(["<end>"])
SPECIAL = special_ids(TOKENIZER)


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=40))
@settings(deadline=None)
def test_pieces_join_to_the_text_and_never_split_a_character(text: str) -> None:
    detokenizer = Detokenizer(TOKENIZER, SPECIAL)

    pieces = [detokenizer.push([token]) for token in ids_of(text)]

    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.finish() == text


def test_a_character_appears_with_its_last_byte() -> None:
    detokenizer = Detokenizer(TOKENIZER, SPECIAL)

    assert [detokenizer.push([token]) for token in ids_of("a€b")] == ["a", "", "", "€", "b"]


def test_special_tokens_do_not_show() -> None:
    detokenizer = Detokenizer(TOKENIZER, SPECIAL)
    end = TOKENIZER.convert_tokens_to_ids("<end>")

    assert detokenizer.push([*ids_of("well"), end, *ids_of(" done"), end]) == "well done"


def test_an_answer_that_ends_inside_a_character_shows_what_there_is() -> None:
    detokenizer = Detokenizer(TOKENIZER, SPECIAL)
    detokenizer.push(ids_of("ok"))
    detokenizer.push(ids_of("€")[:2])

    assert detokenizer.finish() == "\ufffd"


def test_bytes_that_never_become_a_character_are_not_held_for_ever() -> None:
    detokenizer = Detokenizer(TOKENIZER, SPECIAL)
    stray = ids_of("€")[1]

    shown = "".join(detokenizer.push([stray]) for _ in range(3 * MAX_HELD_TOKENS))

    assert len(shown) > MAX_HELD_TOKENS


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
@settings(deadline=None)
def test_an_answer_ends_before_the_stop_string_however_it_is_cut_into_pieces(
    text: str, stop: list[str], data: st.DataObject
) -> None:
    checker = StopChecker(stop)
    shown, stopped = "", False
    rest = text
    while rest and not stopped:
        size = data.draw(st.integers(1, len(rest)))
        piece, rest = rest[:size], rest[size:]
        emitted, stopped = checker.push(piece)
        shown += emitted
    shown += checker.finish()

    seen = text[: len(text) - len(rest)]
    first = min((at for s in stop if (at := seen.find(s)) >= 0), default=None)
    assert stopped == (first is not None)
    assert shown == seen[:first]


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    checker = StopChecker(["END"])

    assert checker.push("the E") == ("the ", False)
    assert checker.push("N") == ("", False)
    assert checker.push("TER") == ("ENTER", False)
    assert checker.push(" END more") == (" ", True)
    assert checker.push("more") == ("", True)
    assert checker.finish() == ""


@pytest.mark.parametrize("stop", [[], [""]])
def test_without_stop_strings_nothing_is_held(stop: list[str]) -> None:
    assert StopChecker(stop).push("anything") == ("anything", False)
