"""Grammars at the moment of drawing: a mask for each row that follows one, and what happens when it cannot go on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import torch

from workers.engine.protocol import Sampling

log = logging.getLogger(__name__)


class TokenConstraint(Protocol):
    """What drawing asks of a grammar; the engine's `Constraint` as the model sees it."""

    def allowed(self) -> torch.Tensor:
        """Tokens that may come next, as bits of int32 words: [ceil(vocabulary / 32)], on the CPU."""

    def accept(self, token: int) -> None:
        """The sequence drew this token."""


def constraint_of(sampling: Sampling) -> TokenConstraint | None:
    """The grammar that a request follows."""
    return cast("TokenConstraint | None", sampling.constraint)


@dataclass(frozen=True, slots=True)
class Follower:
    """A row that follows a grammar. offset: in its range. banned: tokens that would end the answer too early."""

    offset: int
    constraint: TokenConstraint
    banned: tuple[int, ...] = ()

    def words(self) -> np.ndarray | None:
        """Bits of the tokens that may come next; None if the grammar does not know any."""
        try:
            words = self.constraint.allowed().numpy().view(np.uint32)
        except Exception:
            log.warning("A grammar failed", exc_info=True)
            return None
        if not words.any():
            log.warning("A grammar allows no token")
            return None
        return self._without_banned(words)

    def _without_banned(self, words: np.ndarray) -> np.ndarray:
        """Leave out what would end the answer early, unless the grammar allows nothing else."""
        if not self.banned:
            return words
        longer = words.copy()
        for token in self.banned:
            if token < 32 * len(longer):
                longer[token // 32] &= ~np.uint32(1 << (token % 32))
        return longer if longer.any() else words


@dataclass(slots=True, eq=False)
class GrammarMasks:
    """The masks of rows that are drawn alike.

    places: each follower's row in the logits. failed: offsets of followers whose grammar could not go on.
    """

    followers: Sequence[Follower]
    places: torch.Tensor
    failed: set[int] = field(default_factory=set)

    def apply(self, logits: torch.Tensor) -> None:
        """Rule out in place what the grammars do not allow. logits: [rows, vocabulary]."""
        every = [follower.words() for follower in self.followers]
        known = [words for words in every if words is not None]
        self.failed.update(
            follower.offset for follower, words in zip(self.followers, every, strict=True) if words is None
        )
        if not known:
            return
        # A row that has failed is drawn too, from anything: what it draws is thrown away.
        anything = np.full_like(known[0], 0xFFFFFFFF)
        packed = np.stack([anything if words is None else words for words in every])
        bits = _unpack(torch.from_numpy(packed.view(np.int32)).to(logits.device), logits.shape[1])
        logits[self.places] = logits[self.places].masked_fill(~bits, -torch.inf)


def accepts(constraint: TokenConstraint, token: int) -> bool:
    """Tell a grammar what was drawn; False if it cannot go on."""
    try:
        constraint.accept(token)
    except Exception:
        log.warning("A grammar failed on token %d", token, exc_info=True)
        return False
    return True


def _unpack(words: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Bits of int32 words as truth values: [rows, words] to [rows, vocabulary]; what has no bit is False."""
    shifts = torch.arange(32, dtype=torch.int32, device=words.device)
    bits = ((words[:, :, None] >> shifts) & 1).bool().flatten(1)[:, :vocabulary]
    return torch.nn.functional.pad(bits, (0, vocabulary - bits.shape[1]))
