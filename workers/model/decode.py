"""One token for many rows in one forward, and what happens when that forward breaks."""

import logging
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from workers.engine.protocol import RowFailed
from workers.model.sampling.draws import Draw
from workers.model.slots.rows import Rows

log = logging.getLogger(__name__)

_MESSAGES = {
    "out_of_memory": "This request does not fit the device, even alone.",
    "model_failed": "The model failed on this request.",
}


@dataclass(frozen=True, slots=True)
class Breakage:
    """A physical row whose forward raised even alone. code: `out_of_memory` or `model_failed`."""

    row: int
    code: str

    def told_of(self, row: int) -> RowFailed:
        """The same for the engine, which has its own number for the row."""
        return RowFailed(row, self.code, _MESSAGES[self.code])


def decode(model: PreTrainedModel, rows: Rows, start: int, stop: int) -> list[Draw | Breakage]:
    """Draw one more token for each of the rows [start, stop); a forward that raises is halved until one row breaks."""
    try:
        return [_forward(model, rows, start, stop)]
    except Exception as error:
        code = failure_code(error)
        if stop - start == 1:
            return [Breakage(start, code)]
        middle = (start + stop) // 2
        return decode(model, rows, start, middle) + decode(model, rows, middle, stop)


def failure_code(error: Exception) -> str:
    """Name what a forward raised; raise it again if the device itself is lost."""
    if is_out_of_memory(error):
        log.warning("A forward ran out of memory")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return "out_of_memory"
    if isinstance(error, torch.AcceleratorError):
        raise error
    log.warning("A forward failed", exc_info=error)
    return "model_failed"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out, on the device or on the host."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _forward(model: PreTrainedModel, rows: Rows, start: int, stop: int) -> Draw:
    positions, masks, extras = rows.aim(start, stop)
    output = model(
        input_ids=rows.tokens[start:stop],
        attention_mask=masks,
        position_ids=positions,
        past_key_values=rows.cache,
        use_cache=True,
        return_dict=True,
        **extras,
    )
    draw = rows.sampler.draw(output.logits[:, -1], start)
    rows.advance(start, stop, draw.tokens)
    return draw
