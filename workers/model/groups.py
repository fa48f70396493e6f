"""Which prompts can be prefilled in one forward, and how they are laid beside each other."""

from collections.abc import Mapping, Sequence

import torch

from workers.model.prompting.prepared import Prepared

# Inputs with one entry per token; all others lead with an axis of images, clips or patches that is concatenated.
PER_TOKEN = frozenset(
    {
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "mm_token_type_ids",
        "moe_mm_token_type_ids",
        "cross_attention_mask",
    }
)
# Patches of all images in one long strip [1, ..., pixels], told by the sizes beside it: MiniCPM-V's.
_STRIPS = {"pixel_values": "target_sizes", "pixel_values_videos": "target_sizes_videos"}
MAX_PADDING_SHARE = 0.25


def alike(prompt: Prepared) -> tuple[object, ...]:
    """What two prompts must share to be prefilled together: the same inputs, of the same shapes but for their lengths.

    Towers may compute otherwise where nothing is masked, and then a neighbour's mask would change the answer.
    """
    inputs = prompt.inputs
    return tuple(
        sorted(
            (name, str(tensor.dtype), _fixed_shape(name, inputs), _is_whole_mask(name, tensor))
            for name, tensor in inputs.items()
        )
    )


def _fixed_shape(name: str, inputs: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    shape = inputs[name].shape
    if name in PER_TOKEN:
        return tuple(shape[2:])
    return tuple(shape[:-1] if _is_strip(name, inputs) else shape[1:])


def _is_strip(name: str, inputs: Mapping[str, torch.Tensor]) -> bool:
    return _STRIPS.get(name) in inputs


def _is_whole_mask(name: str, tensor: torch.Tensor) -> bool:
    return "mask" in name and name not in PER_TOKEN and bool(tensor.all())


def split(prompts: Sequence[Prepared], max_tokens: int) -> list[list[int]]:
    """Divide prompts into groups to prefill one after the other, as indices into `prompts`.

    A group holds at most `max_tokens` with its padding (a longer prompt goes alone), at most a quarter of it padding.
    """
    kinds: dict[tuple[object, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        kinds.setdefault(alike(prompt), []).append(index)
    groups = []
    for members in kinds.values():
        members.sort(key=lambda index: prompts[index].num_tokens)
        groups += _split_by_length(members, [prompts[index].num_tokens for index in members], max_tokens)
    return sorted(groups, key=min)


def _split_by_length(members: list[int], lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Cut a list that ascends by length wherever one more member would pad the others too much."""
    groups: list[list[int]] = []
    used = 0
    for member, length in zip(members, lengths, strict=True):
        area = (len(groups[-1]) + 1) * length if groups else 0
        if not groups or area > max_tokens or area - used - length > MAX_PADDING_SHARE * area:
            groups.append([])
            used = 0
        groups[-1].append(member)
        used += length
    return groups


def collate(prompts: Sequence[Prepared], pad_id: int, device: torch.device) -> Mapping[str, torch.Tensor]:
    """Lay alike prompts beside each other, padded on the left to one length."""
    num_tokens = max(prompt.num_tokens for prompt in prompts)
    inputs = {
        name: _side_by_side(name, prompts, num_tokens, pad_id).to(device, non_blocking=True)
        for name in prompts[0].inputs
    }
    mask = torch.ones(len(prompts), num_tokens, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        mask[row, : num_tokens - prompt.num_tokens] = 0
    inputs["attention_mask"] = mask.to(device, non_blocking=True)
    return inputs


def _side_by_side(name: str, prompts: Sequence[Prepared], num_tokens: int, pad_id: int) -> torch.Tensor:
    tensors = [prompt.inputs[name] for prompt in prompts]
    if name in PER_TOKEN:
        value = pad_id if name == "input_ids" else 0
        return torch.cat([pad_left(tensor, num_tokens, value) for tensor in tensors])
    return torch.cat(tensors, dim=media_axis(name, prompts[0].inputs))


def media_axis(name: str, inputs: Mapping[str, torch.Tensor]) -> int:
    """Along which axis the media of several prompts follow each other."""
    return -1 if _is_strip(name, inputs) else 0


def pad_left(tensor: torch.Tensor, num_tokens: int, value: int) -> torch.Tensor:
    """A tensor of [1, tokens, ...] with `num_tokens` tokens."""
    missing = num_tokens - tensor.shape[1]
    if missing == 0:
        return tensor
    padding = tensor.new_full((1, missing, *tensor.shape[2:]), value)
    return torch.cat([padding, tensor], dim=1)
