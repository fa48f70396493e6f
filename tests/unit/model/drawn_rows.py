"""Rows with a past, and grammars that a test writes down."""

from collections.abc import Sequence

import torch

from workers.engine.protocol import Sampling
from workers.model.sampling.sampler import RowSampler, RowState

CPU = torch.device("cpu")
VOCABULARY = 40


def words_of(*tokens: int, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """The bitmask of some tokens, as a grammar gives it."""
    words = [0] * -(-vocabulary // 32)
    for token in tokens:
        words[token // 32] |= 1 << (token % 32)
    return torch.tensor(words, dtype=torch.uint32).view(torch.int32)


class Listed:
    """A grammar that is a list: which tokens may come first, second, and so on, then the last ones for ever."""

    def __init__(self, *steps: Sequence[int]) -> None:
        self.steps = steps
        self.accepted: list[int] = []

    def allowed(self) -> torch.Tensor:
        """What may come next."""
        return words_of(*self.steps[min(len(self.accepted), len(self.steps) - 1)])

    def accept(self, token: int) -> None:
        """Go one token on."""
        if token == 13:
            raise ValueError("this grammar fears the thirteenth token")
        self.accepted.append(token)

    def fresh(self) -> "Listed":
        """The same list from its beginning."""
        return Listed(*self.steps)


def rows_with(
    wishes: Sequence[Sampling],
    prompt: Sequence[int] = (),
    answer: Sequence[int] = (),
    eos_ids: frozenset[int] = frozenset(),
) -> RowSampler:
    """A sampler whose rows have all read `prompt` and drawn `answer`."""
    rows = RowSampler(len(wishes), eos_ids, CPU)
    for row, wish in enumerate(wishes):
        rows.load(row, RowState.at_start(wish, torch.tensor([prompt]).long(), torch.empty(VOCABULARY)))
    for token in answer:
        sure = torch.full((len(wishes), VOCABULARY), -1e9)
        sure[:, token] = 1e6
        assert rows.draw(sure, 0).tokens.tolist() == [token] * len(wishes)
    return rows
