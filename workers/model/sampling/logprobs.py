"""What the model itself thought of a drawn token: logarithms of its probabilities, for rows that ask."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from workers.engine.protocol import Logprobs, Sampling


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Which rows of a range ask, and for how much. offsets: in the range; local: the same on the device."""

    offsets: tuple[int, ...]
    num_top: tuple[int, ...]
    local: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class DrawnLogprobs:
    """One draw's logprobs on their way to the host. chosen: [asked]; top, top_ids: [asked, most asked for]."""

    offsets: tuple[int, ...]
    num_top: tuple[int, ...]
    chosen: torch.Tensor
    top: torch.Tensor
    top_ids: torch.Tensor

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "DrawnLogprobs":
        """The same with every tensor moved."""
        return replace(self, chosen=move(self.chosen), top=move(self.top), top_ids=move(self.top_ids))

    def of(self, offset: int) -> "DrawnLogprobs | None":
        """Those of one row, as of a range that holds only this row."""
        if offset not in self.offsets:
            return None
        place = self.offsets.index(offset)
        here = slice(place, place + 1)
        return DrawnLogprobs((0,), self.num_top[here], self.chosen[here], self.top[here], self.top_ids[here])

    def by_offset(self) -> Mapping[int, Logprobs]:
        """Logprobs of each row that asked, on the host."""
        chosen, top, ids = self.chosen.tolist(), self.top.tolist(), self.top_ids.tolist()
        return {
            offset: Logprobs(chosen[place], tuple(zip(ids[place], top[place], strict=True))[:num_top])
            for place, (offset, num_top) in enumerate(zip(self.offsets, self.num_top, strict=True))
        }


def asked(wishes: Iterable[tuple[int, Sampling]], device: torch.device) -> Asked | None:
    """Who asks among rows of a range, given with their offsets; None if nobody does."""
    pairs = [(offset, sampling.num_logprobs) for offset, sampling in wishes]
    asking = [(offset, num_top) for offset, num_top in pairs if num_top is not None]
    if not asking:
        return None
    offsets, num_top = zip(*asking, strict=True)
    return Asked(offsets, num_top, torch.tensor(offsets, device=device))


def read(logits: torch.Tensor, tokens: torch.Tensor, asked: Asked) -> DrawnLogprobs:
    """Logprobs of what a range drew. logits: [rows, vocabulary], the model's own; tokens: [rows]."""
    logprobs = logits[asked.local].float().log_softmax(dim=-1)
    chosen = logprobs.gather(1, tokens[asked.local, None])[:, 0]
    top, top_ids = logprobs.topk(min(max(asked.num_top), logprobs.shape[1]), dim=-1)
    return DrawnLogprobs(asked.offsets, asked.num_top, chosen, top, top_ids)
