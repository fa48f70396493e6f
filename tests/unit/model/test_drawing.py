"""Every wish about drawing, alone and together, against a slow reference: distributions, seeds, moves."""

from dataclasses import replace

import pytest
import torch
from drawn_rows import CPU, VOCABULARY, Listed, rows_with
from reference_sampler import probabilities
from transformers import RepetitionPenaltyLogitsProcessor

from workers.engine.protocol import Sampling
from workers.model.sampling.drawing import gumbel, ints_of
from workers.model.sampling.sampler import RowSampler, RowState

PROMPT, ANSWER, EOS = (1, 4, 4, 9), (5, 5, 7), frozenset({2})
NUM_DRAWS = 3_000
ODD = tuple(range(1, VOCABULARY, 2))

WISHES = {
    "presence": Sampling(temperature=1.0, presence_penalty=1.5),
    "negative presence": Sampling(temperature=1.0, presence_penalty=-1.0),
    "frequency": Sampling(temperature=1.0, frequency_penalty=0.8),
    "repetition": Sampling(temperature=1.0, repetition_penalty=1.7),
    "less than one repetition": Sampling(temperature=0.8, repetition_penalty=0.6),
    "bias": Sampling(temperature=1.0, logit_bias=((3, 2.0), (5, -100.0), (39, 1.0))),
    "min_tokens": Sampling(temperature=1.0, min_tokens=5, stop_ids=frozenset({7, 8})),
    "penalties and top_p": Sampling(temperature=0.9, top_p=0.8, presence_penalty=1.0, repetition_penalty=1.3),
    "everything": Sampling(
        temperature=1.2,
        top_k=12,
        top_p=0.9,
        min_p=0.05,
        min_tokens=4,
        stop_ids=frozenset({7}),
        presence_penalty=0.4,
        frequency_penalty=0.3,
        repetition_penalty=1.2,
        logit_bias=((6, 1.5), (11, -100.0)),
    ),
}


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(3)) * 1.5


def chi_square(counts: torch.Tensor, wanted: torch.Tensor) -> tuple[float, float]:
    """Pearson's statistic over the tokens that are expected five times or more, and its 1 - 1e-4 quantile."""
    expected = wanted * counts.sum()
    often = expected >= 5
    seen = torch.cat([counts[often], counts[~often].sum()[None]])
    hoped = torch.cat([expected[often], expected[~often].sum()[None].clamp(min=1.0)])
    degrees = float(len(hoped) - 1)
    # Wilson and Hilferty's approximation; 3.719 standard deviations.
    limit = degrees * (1 - 2 / (9 * degrees) + 3.719 * (2 / (9 * degrees)) ** 0.5) ** 3
    return float(((seen - hoped) ** 2 / hoped).sum()), limit


@pytest.mark.parametrize("grammar", [None, ODD], ids=["free", "grammar"])
@pytest.mark.parametrize("name", WISHES)
def test_draws_follow_the_reference(logits: torch.Tensor, name: str, grammar: tuple[int, ...] | None) -> None:
    wish = WISHES[name]
    wishes = [
        replace(wish, seed=seed, constraint=None if grammar is None else Listed(grammar))
        for seed in range(NUM_DRAWS)
    ]

    tokens = rows_with_past(wishes).draw(logits.expand(NUM_DRAWS, -1), 0).tokens

    counts = torch.bincount(tokens, minlength=VOCABULARY)
    wanted = probabilities(logits[0], wish, PROMPT, ANSWER, EOS, grammar)
    assert int(counts[wanted == 0].sum()) == 0
    statistic, limit = chi_square(counts.float(), wanted)
    assert statistic < limit


def rows_with_past(wishes: list[Sampling]) -> RowSampler:
    """Rows that have drawn ANSWER before their grammar begins."""
    rows = rows_with([replace(wish, constraint=None, min_tokens=0) for wish in wishes], PROMPT, ANSWER, EOS)
    for row, wish in enumerate(wishes):
        rows.load(row, replace(rows.export(row), sampling=wish))
    return rows


def test_the_measure_finds_a_sampler_that_ignores_a_wish(logits: torch.Tensor) -> None:
    wishes = [Sampling(temperature=1.0, seed=seed) for seed in range(NUM_DRAWS)]
    counts = torch.bincount(
        rows_with(wishes).draw(logits.expand(NUM_DRAWS, -1), 0).tokens, minlength=VOCABULARY
    )

    for name in ("presence", "frequency", "repetition"):
        statistic, limit = chi_square(counts.float(), probabilities(logits[0], WISHES[name], PROMPT, ANSWER))
        assert statistic > limit


@pytest.mark.parametrize("name", WISHES)
def test_greedy_rows_follow_the_reference_step_by_step(name: str) -> None:
    wish = replace(WISHES[name], temperature=0.0)
    rows = rows_with([Sampling(), wish, Sampling()], PROMPT, eos_ids=EOS)
    generator, answer = torch.Generator().manual_seed(1), []
    for _ in range(8):
        # Flat, so that penalties decide.
        logits = torch.randn(3, VOCABULARY, generator=generator) * 0.4
        token = int(rows.draw(logits, 0).tokens[1])
        assert token == int(probabilities(logits[1], wish, PROMPT, answer, EOS).argmax())
        answer.append(token)


def test_repetition_penalty_is_the_one_of_transformers(logits: torch.Tensor) -> None:
    processor = RepetitionPenaltyLogitsProcessor(penalty=2.5)
    wanted = processor(torch.tensor([[*PROMPT, *ANSWER]]), logits.clone()).argmax(-1)

    rows = rows_with([Sampling(repetition_penalty=2.5)], PROMPT, ANSWER)

    assert torch.equal(rows.draw(logits, 0).tokens, wanted)


def many_wishes() -> list[Sampling]:
    """Eight rows, no two alike, some of them plain."""
    wishes = [replace(wish, seed=seed, min_tokens=0) for seed, wish in enumerate(WISHES.values())]
    wishes[1] = Sampling()
    wishes[4] = replace(wishes[4], constraint=Listed(ODD, range(20)))
    wishes[6] = replace(wishes[6], temperature=0.0, num_logprobs=2)
    return wishes


def test_no_wish_reaches_another_row() -> None:
    wishes = many_wishes()
    logits = torch.randn(len(wishes), VOCABULARY, generator=torch.Generator().manual_seed(5))
    batched = rows_with(wishes, PROMPT)
    together = torch.stack([batched.draw(logits, 0).tokens for _ in range(6)])

    for row, wish in enumerate(many_wishes()):
        single = rows_with([wish], PROMPT)
        alone = torch.stack([single.draw(logits[row : row + 1], 0).tokens for _ in range(6)])
        assert torch.equal(alone[:, 0], together[:, row])


def test_a_row_that_moves_or_is_parked_goes_on_as_if_it_had_stayed() -> None:
    count = len(many_wishes())
    logits = torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(5))
    still, moving = rows_with(many_wishes(), PROMPT), rows_with(many_wishes(), PROMPT)
    backwards = list(reversed(range(count)))
    for rows in (still, moving):
        for _ in range(3):
            rows.draw(logits, 0)
    parked = [moving.export(row) for row in range(count)]
    for row in range(count):
        moving.load(row, parked[backwards[row]])
    moving.draw(logits[backwards], 0)
    still.draw(logits, 0)
    spare = moving.export(0)
    moving.move(count - 1, 0)
    moving.load(count - 1, spare)

    wanted = still.draw(logits, 0).tokens
    drawn = moving.draw(logits[[0, *backwards[1:-1], count - 1]], 0).tokens

    assert torch.equal(drawn[[0, *backwards[1:-1], count - 1]], wanted)


def test_a_row_inherits_nothing_of_its_last_occupant() -> None:
    """It penalised what it held, and the row beside it still does."""
    wish = Sampling(temperature=1.0, seed=3, logit_bias=((3, 0.1),))
    penal = Sampling(temperature=1.0, presence_penalty=2.0, repetition_penalty=2.0)
    rows = rows_with([penal, penal], range(VOCABULARY // 2), answer=range(0, VOCABULARY, 3))
    rows.load(0, RowState(wish))
    logits = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(5))

    drawn = [int(rows.draw(logits, 0).tokens[0]) for _ in range(20)]

    single = rows_with([wish])
    assert drawn == [int(single.draw(logits[:1], 0).tokens) for _ in range(20)]


def test_counts_are_made_only_for_rows_that_penalise() -> None:
    rows = rows_with([Sampling(), Sampling(presence_penalty=1.0)], PROMPT)

    assert rows.export(0).counts is None
    assert rows.export(0).num_bytes == 0
    assert rows.export(1).num_bytes == 2 * VOCABULARY * 4


def test_a_biased_or_banned_token_outside_of_the_vocabulary_does_no_harm() -> None:
    wish = Sampling(
        logit_bias=((VOCABULARY, 5.0), (-1, 5.0), (3, 90.0)), min_tokens=1, stop_ids=frozenset({9**9})
    )

    assert rows_with([wish], prompt=(10**6, 3)).draw(torch.zeros(1, VOCABULARY), 0).tokens.tolist() == [3]
    penal = replace(wish, repetition_penalty=1.1)
    assert rows_with([penal], prompt=(10**6, 3)).draw(torch.zeros(1, VOCABULARY), 0).tokens.tolist() == [3]


def test_the_largest_of_half_precision_logits_is_compared_in_float32() -> None:
    """In bfloat16 neither of these steps would be seen beside 40."""
    logits = torch.zeros(1, VOCABULARY, dtype=torch.bfloat16)
    logits[0, 3] = logits[0, 8] = 40.0

    assert rows_with([Sampling(logit_bias=((8, 0.01),))]).draw(logits, 0).tokens.tolist() == [8]


def test_rows_that_ask_for_nothing_are_gathered_by_no_batch() -> None:
    """Their tokens come from the one operation that they cost before there were any wishes."""
    rows = RowSampler(4, EOS, CPU)
    rows.draw(torch.zeros(4, VOCABULARY), 0)

    plan = rows._plans[0, 4]

    assert (plan.batches, plan.asked, plan.penalised, plan.masks) == ((), None, None, ())


def test_noise_is_gumbels_and_of_one_draw_tells_nothing_of_another() -> None:
    count = 200_000
    keys = [ints_of(Sampling(seed=seed), drawn) for seed in (0, 1, 2**40) for drawn in (0, 1, 2)]
    noise = gumbel(torch.tensor(keys), torch.arange(count)[None]).double()

    assert bool(noise.isfinite().all())
    assert torch.allclose(noise.mean(dim=1), torch.tensor(0.5772).double(), atol=4 * 1.2825 / count**0.5)
    assert torch.allclose(noise.var(dim=1), torch.tensor(torch.pi**2 / 6).double(), atol=0.03)
    # The share of noise beyond 10 is 4.5e-5: nine of these numbers.
    assert 0 < int((noise > 10).sum()) < 9 * 9 * 3
    related = torch.corrcoef(noise) - torch.eye(len(keys))
    assert float(related.abs().max()) < 5 / count**0.5
    shifted = torch.corrcoef(torch.stack([noise[0, :-1], noise[0, 1:]]))[0, 1]
    assert abs(float(shifted)) < 5 / count**0.5
