"""How the rows of a range are drawn, worked out once and kept until a row changes hands.

Rows that ask for nothing are in no batch: the largest logit is theirs. The others are gathered by what they need.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeAlias

import torch

from workers.engine.protocol import Sampling
from workers.model.sampling import logprobs, penalties
from workers.model.sampling.constraints import Follower, GrammarMasks, TokenConstraint, constraint_of
from workers.model.sampling.drawing import DrawRows, drawing_of
from workers.model.sampling.penalties import Penalties

_NONE: frozenset[int] = frozenset()

# Changes gathered logits [rows, vocabulary] in place.
Edit: TypeAlias = Callable[[torch.Tensor], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """One row of a range. banned: tokens that would end its answer too early, while it is too early."""

    offset: int
    sampling: Sampling
    banned: tuple[int, ...] = ()

    @property
    def is_edited(self) -> bool:
        """Whether its logits are changed before a token is drawn."""
        sampling = self.sampling
        is_constrained = sampling.constraint is not None
        return bool(self.banned or sampling.logit_bias or is_constrained or penalties.are_wanted(sampling))

    @property
    def draw(self) -> DrawRows | None:
        """What draws its token; None is the largest logit."""
        return drawing_of(self.sampling)


@dataclass(frozen=True, slots=True, eq=False)
class DrawBatch:
    """Rows that are drawn alike. local: [rows] in their range; here: [rows], their physical numbers."""

    local: torch.Tensor
    here: torch.Tensor
    draw: DrawRows | None
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DrawPlan:
    """All that is special about a range. early: offsets of rows that may not end yet; penalised: local and here."""

    batches: tuple[DrawBatch, ...]
    asked: logprobs.Asked | None
    early: tuple[int, ...]
    penalised: tuple[torch.Tensor, torch.Tensor] | None
    constraints: dict[int, TokenConstraint]
    masks: tuple[GrammarMasks, ...]

    @property
    def failed(self) -> frozenset[int]:
        """Offsets of the rows whose grammar could not go on."""
        if not self.masks:
            return _NONE
        return frozenset(offset for masks in self.masks for offset in masks.failed)


_PLAIN = DrawPlan((), None, (), None, {}, ())


def is_plain(sampling: Sampling) -> bool:
    """Whether a request takes the largest logit, whatever it is, and asks for nothing besides."""
    wish = Wish(0, sampling)
    return not (
        wish.is_edited
        or wish.draw is not None
        or sampling.min_tokens > 0
        or sampling.num_logprobs is not None
    )


class Planner:
    """Makes plans for ranges of rows. counts: of all slots."""

    def __init__(self, counts: Penalties, device: torch.device) -> None:
        self._penalties = counts
        self._device = device

    def plan(self, start: int, wishes: Sequence[Wish], vocabulary: int) -> DrawPlan:
        """Plan a range of rows from `start` on. wishes: of those that are not plain."""
        if not wishes:
            return _PLAIN
        drawn = [wish for wish in wishes if wish.is_edited or wish.draw is not None]
        drawn.sort(key=_kind)
        batches, masks = [], []
        for _, members in groupby(drawn, key=_kind):
            batch, its_masks = self._batch(start, list(members), vocabulary)
            batches.append(batch)
            masks += its_masks
        penalised = [wish.offset for wish in wishes if penalties.are_wanted(wish.sampling)]
        constraints = ((wish.offset, constraint_of(wish.sampling)) for wish in wishes)
        return DrawPlan(
            batches=tuple(batches),
            asked=logprobs.asked([(wish.offset, wish.sampling) for wish in wishes], self._device),
            early=tuple(wish.offset for wish in wishes if wish.banned),
            penalised=self._places(start, penalised) if penalised else None,
            constraints={offset: found for offset, found in constraints if found is not None},
            masks=tuple(masks),
        )

    def _batch(
        self, start: int, members: list[Wish], vocabulary: int
    ) -> tuple[DrawBatch, list[GrammarMasks]]:
        local, here = self._places(start, [wish.offset for wish in members])
        edits: list[Edit] = []
        if any(penalties.are_wanted(wish.sampling) for wish in members):
            repeats = any(wish.sampling.repetition_penalty != 1 for wish in members)
            edits.append(partial(self._penalties.apply, rows=here, repeats=repeats))
        if any(wish.sampling.logit_bias for wish in members):
            edits.append(self._bias(members, vocabulary))
        if any(wish.banned and wish.sampling.constraint is None for wish in members):
            edits.append(self._early_stops(members, vocabulary))
        masks = self._masks(members)
        edits += [mask.apply for mask in masks]
        return DrawBatch(local, here, members[0].draw, tuple(edits)), masks

    def _places(self, start: int, offsets: Collection[int]) -> tuple[torch.Tensor, torch.Tensor]:
        local = torch.tensor(offsets, device=self._device)
        return local, local + start

    def _bias(self, members: list[Wish], vocabulary: int) -> Edit:
        added: dict[int, float] = {}
        for place, wish in enumerate(members):
            for token, bias in wish.sampling.logit_bias:
                if 0 <= token < vocabulary:
                    key = place * vocabulary + token
                    added[key] = added.get(key, 0.0) + bias
        where = torch.tensor(list(added), dtype=torch.long, device=self._device)
        biases = torch.tensor(list(added.values()), dtype=torch.float32, device=self._device)

        def add(logits: torch.Tensor) -> None:
            logits.view(-1).index_add_(0, where, biases)

        return add

    def _early_stops(self, members: list[Wish], vocabulary: int) -> Edit:
        banned = [
            place * vocabulary + token
            for place, wish in enumerate(members)
            if wish.sampling.constraint is None
            for token in wish.banned
            if 0 <= token < vocabulary
        ]
        where = torch.tensor(banned, dtype=torch.long, device=self._device)

        def rule_out(logits: torch.Tensor) -> None:
            logits.view(-1).index_fill_(0, where, -math.inf)

        return rule_out

    def _masks(self, members: list[Wish]) -> list[GrammarMasks]:
        following = [
            (place, Follower(wish.offset, constraint, wish.banned))
            for place, wish in enumerate(members)
            if (constraint := constraint_of(wish.sampling)) is not None
        ]
        if not following:
            return []
        places = torch.tensor([place for place, _ in following], device=self._device)
        return [GrammarMasks([follower for _, follower in following], places)]


def _kind(wish: Wish) -> tuple[bool, str]:
    """Rows of one kind share a batch."""
    return wish.is_edited, "" if wish.draw is None else wish.draw.__name__
