"""Penalties on tokens that a row holds already, and the counts they need: kept on the device, made when first asked."""

import torch

from workers.engine.protocol import Sampling

_ANSWER, _PROMPT = 0, 1
_NEUTRAL = (0.0, 0.0, 1.0)


def are_wanted(sampling: Sampling) -> bool:
    """Whether a request penalises anything."""
    return bool(sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty != 1)


def counts_at_start(
    sampling: Sampling, prompt_ids: torch.Tensor, vocabulary: int, device: torch.device
) -> torch.Tensor | None:
    """Counts of a row that has drawn nothing: [2, vocabulary], of its answer and of its prompt.

    prompt_ids: [1, tokens]. Placeholders of media count like any token, as in transformers.
    """
    if not are_wanted(sampling):
        return None
    ids = prompt_ids.flatten().to(device)
    counts = torch.zeros(2, vocabulary, dtype=torch.int32, device=device)
    # A family's placeholders may lie outside of what its head can say.
    counts[_PROMPT, ids[(ids >= 0) & (ids < vocabulary)]] = 1
    return counts


class Penalties:
    """Counts and factors of all slots. Rows are physical slot numbers."""

    def __init__(self, num_slots: int, device: torch.device) -> None:
        self._num_slots = num_slots
        self._counts: torch.Tensor | None = None
        # Columns: presence, frequency, repetition. Those of a row that penalises nothing change no number at all.
        self._factors = torch.tensor([_NEUTRAL] * num_slots, dtype=torch.float32, device=device)
        self._penalised: set[int] = set()

    def load(self, row: int, sampling: Sampling, counts: torch.Tensor) -> None:
        """Set a row's factors and counts [2, vocabulary]."""
        if self._counts is None:
            self._counts = counts.new_zeros((self._num_slots, *counts.shape))
        self._counts[row] = counts
        factors = (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty)
        self._factors[row] = torch.tensor(factors)
        self._penalised.add(row)

    def forget(self, row: int) -> None:
        """Let a row's next occupant, who penalises nothing, be drawn beside rows that do."""
        if row in self._penalised:
            self._penalised.remove(row)
            self._factors[row] = torch.tensor(_NEUTRAL)

    def counts(self, row: int) -> torch.Tensor:
        """A row's counts as they are now: a view, [2, vocabulary]."""
        assert self._counts is not None
        return self._counts[row]

    def apply(self, logits: torch.Tensor, rows: torch.Tensor, repeats: bool) -> None:
        """Lower in place what these rows hold already. logits: [rows, vocabulary], rows: [rows].

        repeats: whether any of them has a repetition_penalty.
        First CTRL's repetition (divide what is above zero, multiply what is below), then OpenAI's two.
        """
        assert self._counts is not None
        counts, factors = self._counts[rows], self._factors[rows]
        presence, frequency, repetition = (factors[:, column, None] for column in range(3))
        if repeats:
            repeated = torch.where(logits > 0, logits / repetition, logits * repetition)
            torch.where(counts.amax(dim=1) > 0, repeated, logits, out=logits)
        answered = counts[:, _ANSWER]
        logits -= answered * frequency + (answered > 0) * presence

    def note(self, rows: torch.Tensor, tokens: torch.Tensor) -> None:
        """Count what these rows drew. rows, tokens: [rows]."""
        assert self._counts is not None
        self._counts[rows, _ANSWER, tokens] += 1
