"""Prompts into rows: alike prompts share a forward; a group that breaks is halved until one prompt breaks alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from workers.engine.protocol import Prefill
from workers.model import generate_hooks, groups, hooks
from workers.model.caches import prefix_states, resume
from workers.model.caches.encoder_cache import MediaKey
from workers.model.caches.openings import Opening
from workers.model.caches.prefix_cache import Entry
from workers.model.caches.prefix_states import Beginning
from workers.model.caches.reuse import Findings, Reuse
from workers.model.decode import Breakage, failure_code
from workers.model.hooks import Encoded, Prefilled
from workers.model.sampling.draws import Draw
from workers.model.sampling.sampler import RowState
from workers.model.slots.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """What became of one prompt. findings: for the caches, once the draw has turned out finite."""

    prefill: Prefill
    outcome: Draw | Breakage
    num_cached: int = 0
    findings: Findings = field(default_factory=Findings)


class Prefiller:
    """Prefills prompts into consecutive free rows. max_tokens: of one forward, with padding."""

    def __init__(self, model: PreTrainedModel, rows: Rows, max_tokens: int, reuse: Reuse) -> None:
        self._model = model
        self._rows = rows
        self._specs = rows.cache.specs
        self._max_tokens = max_tokens
        self._reuse = reuse
        self._pad_id = generate_hooks.pad_id(model)

    def fill(self, prefills: Sequence[Prefill], first_row: int) -> list[Filled]:
        """Prefill into rows from `first_row` on and draw every prompt's first token.

        A prompt that breaks takes no row: the rows of the others stay without gaps, in the order of the answer.
        """
        self._reuse.begin()
        filled: list[Filled] = []
        waiting = list(prefills)
        while waiting:
            found = self._reuse.open(waiting)
            waiting = found.waiting
            for stem in found.stems:
                self._grow(stem)
            for group in self._split(list(found.openings.values())):
                done = self._fill_group(group, first_row)
                first_row += _num_rows(done)
                filled += done
        return filled

    def _grow(self, stem: Opening) -> None:
        """Compute a beginning that several prompts wait for; without it, they begin by themselves."""
        entries: tuple[Entry, ...] = ()
        try:
            entries = self._reuse.take(stem, *self._computed([stem]).sources[0])
        except Exception as error:
            failure_code(error)
        self._reuse.note_stem(stem, entries)

    def _split(self, openings: list[Opening]) -> list[list[Opening]]:
        """Groups for one forward each: from scratch, with encoded media, from cached states."""
        fresh = [opening for opening in openings if opening.hit is None]
        encoding = [[opening] for opening in fresh if opening.encodes]
        split = []
        for has_encoded in (False, True):
            alike = [
                opening
                for opening in fresh
                if not opening.encodes and (opening.encoded is not None) is has_encoded
            ]
            together = groups.split([opening.prompt for opening in alike], self._max_tokens)
            split += [[alike[member] for member in members] for members in together]
        resumed = [opening for opening in openings if opening.hit is not None]
        return [
            *split,
            *encoding,
            *resume.split(resumed, self._specs, self._reuse.rules, self._max_tokens),
        ]

    def _fill_group(self, group: list[Opening], first_row: int) -> list[Filled]:
        try:
            return self._forward(group, first_row)
        except Exception as error:
            code = failure_code(error)
        if len(group) == 1:
            if group[0].is_helped:
                # No cache may fail a request that would have gone well without it.
                return self._fill_group([group[0].from_scratch()], first_row)
            return [Filled(group[0].prefill, Breakage(first_row, code))]
        middle = len(group) // 2
        left = self._fill_group(group[:middle], first_row)
        return left + self._fill_group(group[middle:], first_row + _num_rows(left))

    def _forward(self, group: list[Opening], first_row: int) -> list[Filled]:
        computed, rows = self._computed(group), self._rows
        for offset, (opening, (source, source_row)) in enumerate(zip(group, computed.sources, strict=True)):
            prompt, sampling = opening.prompt, opening.prefill.sampling
            rows.load(first_row + offset, source, source_row, prompt.num_tokens)
            state = RowState.at_start(sampling, prompt.inputs["input_ids"], computed.logits)
            rows.sampler.load(first_row + offset, state)
        draw = rows.sampler.draw(computed.logits, first_row)
        rows.tokens[first_row : first_row + len(group), 0] = draw.tokens
        filled = []
        for offset, opening in enumerate(group):
            findings = Findings(self._reuse.take(opening, *computed.sources[offset]), computed.encoded)
            filled.append(Filled(opening.prefill, draw.of(offset), opening.num_spared, findings))
        return filled

    def _computed(self, group: list[Opening]) -> "_Computed":
        return self._from_scratch(group) if group[0].hit is None else self._from_cached(group)

    def _from_scratch(self, group: list[Opening]) -> "_Computed":
        inputs = groups.collate([opening.prompt for opening in group], self._pad_id, self._model.device)
        encoded, encoding = self._reuse.encode(group, inputs)
        prefilled = hooks.prefill(self._model, inputs, encoded)
        sources = [(prefilled, row) for row in range(len(group))]
        return _Computed(prefilled.logits, sources, encoding.encoded)

    def _from_cached(self, group: list[Opening]) -> "_Computed":
        model, specs = self._model, self._specs
        layout = resume.collate(group, self._pad_id, model.device)
        encoded, encoding = self._reuse.encode(group, layout.inputs)
        cache = prefix_states.lay_out(model, specs, [_beginning(opening) for opening in group])
        prefilled = hooks.prefill_on(
            model, layout.inputs, cache, layout.num_new, spent=layout.spent, encoded=encoded
        )
        sources = []
        for row, opening in enumerate(group):
            gap = layout.gap(opening)
            has_gap = gap.start < gap.stop
            closed = prefix_states.without_gap(model, specs, prefilled, row, gap) if has_gap else prefilled
            sources.append((closed, 0 if has_gap else row))
        return _Computed(prefilled.logits, sources, encoding.encoded)


@dataclass(frozen=True, slots=True, eq=False)
class _Computed:
    """A group's forward. sources: the cache of each prompt, and its row there."""

    logits: torch.Tensor
    sources: list[tuple[Prefilled, int]]
    encoded: tuple[MediaKey, Encoded] | None


def _beginning(opening: Opening) -> Beginning:
    assert opening.hit is not None
    entry = opening.hit.entry
    return Beginning(entry.states, entry.content.num_tokens, opening.hit.num_cached)


def _num_rows(filled: Sequence[Filled]) -> int:
    return sum(isinstance(each.outcome, Draw) for each in filled)
