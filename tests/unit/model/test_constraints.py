"""Grammars while drawing: nothing else is drawn, tokens are told in order, and a broken one fails alone."""

import pytest
import torch
from drawn_rows import VOCABULARY, Listed, rows_with, words_of

from workers.engine.protocol import RowFailed, Sampling, Token

PLAIN = Sampling()


class Silent(Listed):
    """Allows nothing."""

    def allowed(self) -> torch.Tensor:
        return words_of()


class Broken(Listed):
    """Cannot even say what it allows."""

    def allowed(self) -> torch.Tensor:
        raise RuntimeError("lost")


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("how", [{}, {"temperature": 2.0}, {"temperature": 2.0, "top_p": 0.9}])
def test_only_what_the_grammar_allows_is_drawn(logits: torch.Tensor, how: dict[str, float]) -> None:
    grammar = Listed((3, 33), (4, 34, 39))
    rows = rows_with([Sampling(**how), Sampling(**how, constraint=grammar), PLAIN])  # type: ignore[arg-type]
    drawn = []
    for _ in range(6):
        results = list(rows.draw(logits, 0).results((0, 1, 2)))
        assert isinstance(results[1], Token)
        drawn.append(results[1].token)

    assert drawn[0] in (3, 33)
    assert set(drawn[1:]) <= {4, 34, 39}
    assert grammar.accepted == drawn


@pytest.mark.parametrize("bad", [Silent(), Broken(), Listed((13,))])
def test_a_grammar_that_cannot_go_on_fails_its_row_alone(logits: torch.Tensor, bad: Listed) -> None:
    rows = rows_with([Sampling(constraint=Listed((5,))), Sampling(constraint=bad), PLAIN])

    good, failed, plain = rows.draw(logits, 0).results((0, 1, 2))

    assert good == Token(0, 5)
    assert isinstance(failed, RowFailed)
    assert failed.code == "grammar_failed"
    assert plain == Token(2, int(logits[2].argmax()))


def test_a_row_whose_numbers_are_not_finite_is_not_told_to_its_grammar(logits: torch.Tensor) -> None:
    grammar = Listed((5,))
    logits[0, 30] = torch.nan

    (result,) = rows_with([Sampling(constraint=grammar)]).draw(logits[:1], 0).results((0,))

    assert isinstance(result, RowFailed)
    assert result.code == "model_failed"
    assert grammar.accepted == []


def test_a_grammar_outranks_min_tokens_only_where_it_allows_nothing_else(logits: torch.Tensor) -> None:
    logits[0, 2] = 50.0
    wish = Sampling(min_tokens=10, constraint=Listed((2, 6), (2,)))
    rows = rows_with([wish], eos_ids=frozenset({2}))

    said = [next(rows.draw(logits[:1], 0).results((0,))) for _ in range(2)]

    assert said == [Token(0, 6), Token(0, 2)]


def test_tokens_without_a_bit_are_not_allowed() -> None:
    """A head may be wider than its tokenizer."""
    logits = torch.zeros(1, VOCABULARY + 100)
    logits[0, VOCABULARY + 50] = 9.0

    assert rows_with([Sampling(constraint=Listed((7,)))]).draw(logits, 0).tokens.tolist() == [7]
