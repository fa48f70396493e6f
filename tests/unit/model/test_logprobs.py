"""Logprobs: the model's own, whatever the request wished for its draws."""

import pytest
import torch
from drawn_rows import VOCABULARY, rows_with

from workers.engine.protocol import RowResult, Sampling, Token

WILD = Sampling(
    temperature=1.3, top_k=5, presence_penalty=1.0, logit_bias=((3, 50.0),), seed=4, num_logprobs=4
)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(2)) * 2


def token_of(result: RowResult) -> Token:
    assert isinstance(result, Token)
    return result


def test_logprobs_are_the_log_softmax_of_the_models_logits(logits: torch.Tensor) -> None:
    wishes = [Sampling(num_logprobs=3), Sampling(), WILD, Sampling(num_logprobs=0)]
    wanted = logits.log_softmax(-1)

    drawn = [token_of(result) for result in rows_with(wishes).draw(logits, 0).results((10, 11, 12, 13))]

    assert [token.row for token in drawn] == [10, 11, 12, 13]
    assert drawn[1].logprobs is None
    for row, num_top in ((0, 3), (2, 4), (3, 0)):
        told = drawn[row].logprobs
        assert told is not None
        assert told.chosen == pytest.approx(float(wanted[row, drawn[row].token]), abs=1e-6)
        best = wanted[row].topk(num_top)
        assert [token for token, _ in told.top] == best.indices.tolist()
        assert [logprob for _, logprob in told.top] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert drawn[2].token == 3
    assert 3 not in [token for token, _ in drawn[2].logprobs.top] if drawn[2].logprobs else False


def test_a_row_taken_out_of_a_draw_keeps_its_logprobs(logits: torch.Tensor) -> None:
    draw = rows_with([Sampling(), Sampling(num_logprobs=2), Sampling(num_logprobs=1)]).draw(logits[:3], 0)

    for offset, result in enumerate(draw.results((0, 1, 2))):
        assert list(draw.of(offset).results((offset,))) == [result]


def test_more_logprobs_than_tokens_are_all_there_are() -> None:
    (result,) = rows_with([Sampling(num_logprobs=20)]).draw(torch.zeros(1, 6), 0).results((0,))

    told = token_of(result).logprobs
    assert told is not None
    assert len(told.top) == 6
