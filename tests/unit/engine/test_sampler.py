"""How tokens are drawn: the right distribution, the right cut, and the same draw in any company."""

import math

import pytest
import torch

from workers.engine.protocol import Sampling
from workers.model.sampling import drawing
from workers.model.sampling.sampler import RowSampler, RowState

CPU = torch.device("cpu")
NO_PROMPT = torch.empty(1, 0, dtype=torch.long)


def rows_of(*wishes: Sampling, eos_ids: frozenset[int] = frozenset(), vocabulary: int = 0) -> RowSampler:
    rows = RowSampler(len(wishes), eos_ids, CPU)
    for row, sampling in enumerate(wishes):
        rows.load(row, RowState.at_start(sampling, NO_PROMPT, torch.empty(vocabulary)))
    return rows


def draw_many(logits: torch.Tensor, count: int, **sampling: float) -> torch.Tensor:
    """`count` draws from one row of logits, each with its own seed; as shares of the vocabulary."""
    rows = rows_of(*(Sampling(seed=seed, **sampling) for seed in range(count)))  # type: ignore[arg-type]
    tokens = rows.draw(logits.expand(count, -1), 0).tokens
    return torch.bincount(tokens, minlength=logits.shape[-1]) / count


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(1, 24, generator=torch.Generator().manual_seed(3)) * 1.5


def test_temperature_zero_takes_the_largest_logit() -> None:
    logits = torch.randn(5, 100)

    tokens = rows_of(*[Sampling()] * 5).draw(logits, 0).tokens

    assert torch.equal(tokens, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_draws_follow_the_softmax(logits: torch.Tensor, temperature: float) -> None:
    shares = draw_many(logits, 6_000, temperature=temperature)

    wanted = (logits[0] / temperature).softmax(-1)
    # Four standard deviations of a share over 6,000 draws.
    assert bool(((shares - wanted).abs() < 4 * (wanted / 6_000).sqrt() + 1e-4).all())


@pytest.mark.parametrize(
    "cut",
    [{"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.2}, {"top_k": 8, "top_p": 0.7}, {"top_p": 0.9, "min_p": 0.1}],
)
def test_what_is_cut_off_is_never_drawn_and_the_rest_keeps_its_shares(
    logits: torch.Tensor, cut: dict[str, float]
) -> None:
    shares = draw_many(logits, 6_000, temperature=1.0, **cut)

    wanted = reference(logits[0], **cut)
    assert bool((shares[wanted == 0] == 0).all())
    assert bool(((shares - wanted).abs() < 4 * (wanted / 6_000).sqrt() + 1e-4).all())


def reference(logits: torch.Tensor, top_k: float = 0, top_p: float = 1.0, min_p: float = 0.0) -> torch.Tensor:
    """One row, slowly: top_k, then top_p of what is left, then min_p."""
    ranked = sorted(range(len(logits)), key=lambda token: -float(logits[token]))
    ranked = ranked[: int(top_k) or None]
    shares = torch.softmax(logits[ranked], -1)
    kept, reached = [], 0.0
    for token, share in zip(ranked, shares.tolist(), strict=True):
        if reached < top_p and share >= min_p * float(shares[0]):
            kept.append(token)
        reached += share
    wanted = torch.zeros(len(logits))
    wanted[kept] = torch.softmax(logits[kept], -1)
    return wanted


def test_a_flat_distribution_is_not_cut_at_the_candidates() -> None:
    """top_p over 2,000 equal tokens reaches far beyond the candidates that are looked at first."""
    logits = torch.randn(1, 2_000, generator=torch.Generator().manual_seed(0)) * 1e-3

    shares = draw_many(logits, 3_000, temperature=1.0, top_p=0.9)

    assert int((shares > 0).sum()) > 3 * drawing.NUM_CANDIDATES


def test_looking_at_candidates_first_changes_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(40, 1_500, generator=torch.Generator().manual_seed(1)) * 2
    wishes = [
        Sampling(temperature=1.0, top_p=0.5 + 0.0125 * row, top_k=row % 3 * 20, seed=row) for row in range(40)
    ]
    quick = rows_of(*wishes).draw(logits, 0).tokens
    monkeypatch.setattr(drawing, "NUM_CANDIDATES", 1_500)
    whole = rows_of(*wishes).draw(logits, 0).tokens

    assert torch.equal(quick, whole)


def test_a_draw_does_not_depend_on_the_other_rows() -> None:
    logits = torch.randn(6, 300)
    wishes = [
        Sampling(temperature=0.0 if row == 2 else 1.0, top_p=1.0 if row % 2 else 0.8, seed=row)
        for row in range(6)
    ]
    batched = rows_of(*wishes)
    together = torch.stack([batched.draw(logits, 0).tokens for _ in range(5)])

    for row, sampling in enumerate(wishes):
        single = rows_of(sampling)
        alone = torch.stack([single.draw(logits[row : row + 1], 0).tokens for _ in range(5)])
        assert torch.equal(alone[:, 0], together[:, row])


def test_a_moved_row_keeps_its_sequence_of_draws() -> None:
    logits = torch.randn(1, 300)
    still, moved = (
        rows_of(Sampling(temperature=1.0, seed=5)),
        rows_of(*[Sampling(temperature=1.0, seed=5)] * 3),
    )
    for _ in range(3):
        still.draw(logits, 0)
        moved.draw(logits.expand(3, -1), 0)
    moved.move(2, 0)

    assert torch.equal(still.draw(logits, 0).tokens, moved.draw(logits, 0).tokens)


def test_seeds_of_any_size_differ() -> None:
    logits = torch.zeros(6, 5_000)
    seeds = [0, 1, -1, 2**32, 2**63, 2**64 - 2]

    tokens = rows_of(*(Sampling(temperature=1.0, seed=seed) for seed in seeds)).draw(logits, 0).tokens

    assert len(set(tokens.tolist())) == len(seeds)


def test_successive_draws_are_independent() -> None:
    rows = rows_of(*(Sampling(temperature=1.0, seed=seed) for seed in range(4_000)))
    first = rows.draw(torch.zeros(4_000, 4), 0).tokens
    second = rows.draw(torch.zeros(4_000, 4), 0).tokens

    pairs = torch.bincount(first * 4 + second, minlength=16) / 4_000
    assert bool(((pairs - 1 / 16).abs() < 0.02).all())


def test_an_answer_does_not_stop_before_min_tokens() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 3], logits[0, 4], logits[0, 5] = 3.0, 2.0, 1.0
    wish = Sampling(min_tokens=2, stop_ids=frozenset({4}))
    rows = rows_of(wish, eos_ids=frozenset({3}))

    assert [int(rows.draw(logits, 0).tokens) for _ in range(3)] == [5, 5, 3]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_whose_numbers_are_not_finite_are_named(bad: float) -> None:
    logits = torch.randn(3, 50)
    logits[1, 7] = bad

    finite = rows_of(*[Sampling()] * 3).draw(logits, 0).finite

    assert finite.tolist() == [True, False, True]


def test_tokens_that_the_model_rules_out_are_no_failure() -> None:
    logits = torch.randn(1, 50)
    logits[0, :25] = -math.inf

    drawn = rows_of(Sampling(temperature=1.0)).draw(logits, 0)

    assert drawn.finite.tolist() == [True]
    assert int(drawn.tokens) >= 25
