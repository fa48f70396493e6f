"""Prompts whose beginnings were computed before, laid beside each other: cached columns first, then the new ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workers.model.caches.openings import Opening
from workers.model.caches.prefix_cache import CutRules
from workers.model.caches.prefix_states import cross_shapes
from workers.model.groups import MAX_PADDING_SHARE, PER_TOKEN, alike, media_axis, pad_left
from workers.model.hooks import LayerSpec

# Padding that is cheaper than another forward.
_FREE_PADDING = 64
# Cached columns cost memory and attention, new ones the whole model.
_COLUMNS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A group's inputs, [rows, num_cached + num_new] where they are per token, each part padded on its left.

    spent: inputs whose media lie among the cached columns.
    """

    inputs: dict[str, torch.Tensor]
    num_cached: int
    num_new: int
    spent: frozenset[str]

    def gap(self, opening: Opening) -> slice:
        """The padding between an opening's cached columns and its new ones."""
        return slice(self.num_cached, self.num_cached + self.num_new - opening.num_new)


def split(
    openings: Sequence[Opening], specs: Sequence[LayerSpec], rules: CutRules, max_tokens: int
) -> list[list[Opening]]:
    """Divide openings that go on from cached states into groups to run one after the other."""
    kinds: dict[tuple[object, ...], list[Opening]] = {}
    for opening in openings:
        assert opening.hit is not None
        alone = opening.prefill.sequence_id if opening.encodes else opening.encoded is not None
        shapes = cross_shapes(opening.hit.entry.states, specs)
        kinds.setdefault((alone, opening.needs_media, shapes, alike(opening.prompt)), []).append(opening)
    groups = []
    for members in kinds.values():
        members.sort(key=lambda opening: opening.num_new)
        groups += _split_by_length(members, rules, max_tokens)
    return groups


def collate(openings: Sequence[Opening], pad_id: int, device: torch.device) -> Layout:
    """Lay the openings of one group beside each other."""
    num_cached = max(opening.num_cached for opening in openings)
    num_new = max(opening.num_new for opening in openings)
    names = list(openings[0].prompt.inputs)
    spent = frozenset() if openings[0].needs_media else frozenset(names) - PER_TOKEN
    inputs = {}
    for name in names:
        tensors = [opening.prompt.inputs[name] for opening in openings]
        if name in PER_TOKEN:
            value = pad_id if name == "input_ids" else 0
            tensors = [
                _padded(tensor, opening.num_cached, num_cached, num_new, value)
                for tensor, opening in zip(tensors, openings, strict=True)
            ]
        elif name in spent and not _tells_positions(tensors[0]):
            continue
        axis = media_axis(name, openings[0].prompt.inputs)
        inputs[name] = torch.cat(tensors, dim=axis).to(device, non_blocking=True)
    mask = [
        _padded(
            torch.ones(1, opening.prompt.num_tokens, dtype=torch.long),
            opening.num_cached,
            num_cached,
            num_new,
            0,
        )
        for opening in openings
    ]
    inputs["attention_mask"] = torch.cat(mask).to(device, non_blocking=True)
    return Layout(inputs, num_cached, num_new, spent)


def _split_by_length(members: list[Opening], rules: CutRules, max_tokens: int) -> list[list[Opening]]:
    """Cut a list that ascends by new tokens where one more member would cost, or pad, too much."""
    groups: list[list[Opening]] = []
    for member in members:
        if not groups or not _fits([*groups[-1], member], rules, max_tokens):
            groups.append([])
        groups[-1].append(member)
    return groups


def _fits(group: list[Opening], rules: CutRules, max_tokens: int) -> bool:
    num_new = group[-1].num_new
    num_columns = num_new + max(opening.num_cached for opening in group)
    area = len(group) * num_new
    padding = area - sum(opening.num_new for opening in group)
    return (
        area <= max_tokens
        and len(group) * num_columns <= _COLUMNS_PER_TOKEN * max_tokens
        and padding <= max(_FREE_PADDING, MAX_PADDING_SHARE * area)
        and (padding == 0 or rules.can_pad(num_columns))
    )


def _padded(tensor: torch.Tensor, cut: int, num_cached: int, num_new: int, value: int) -> torch.Tensor:
    parts = pad_left(tensor[:, :cut], num_cached, value), pad_left(tensor[:, cut:], num_new, value)
    return torch.cat(parts, dim=1)


def _tells_positions(tensor: torch.Tensor) -> bool:
    """Grids, lengths and rates, but neither pixels nor sound features."""
    return tensor.ndim <= 1 or not tensor.is_floating_point()
