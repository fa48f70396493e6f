"""Prompts into rows: alike prompts share a forward; a group that breaks is halved until one prompt breaks alone."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from workers.engine.protocol import Prefill
from workers.model import groups, hooks
from workers.model.decode import Breakage, failure_code
from workers.model.draws import Draw
from workers.model.prepared import Prepared
from workers.model.rows import Rows
from workers.model.sampler import RowState


class Prefiller:
    """Prefills prompts into consecutive free rows. max_tokens: of one forward, with padding."""

    def __init__(self, model: PreTrainedModel, rows: Rows, max_tokens: int) -> None:
        self._model = model
        self._rows = rows
        self._max_tokens = max_tokens
        self._pad_id = _pad_id(model)

    def fill(self, prefills: Sequence[Prefill], first_row: int) -> list[tuple[Prefill, Draw | Breakage]]:
        """Prefill into rows from `first_row` on and draw every prompt's first token.

        A prompt that breaks takes no row: the rows of the others stay without gaps, in the order of the answer.
        """
        prompts = [_prepared(prefill) for prefill in prefills]
        outcomes: list[tuple[Prefill, Draw | Breakage]] = []
        for members in groups.split(prompts, self._max_tokens):
            outcomes += self._fill_group([prefills[member] for member in members], first_row)
            first_row += sum(isinstance(outcome, Draw) for _, outcome in outcomes[-len(members) :])
        return outcomes

    def _fill_group(self, group: list[Prefill], first_row: int) -> list[tuple[Prefill, Draw | Breakage]]:
        try:
            return self._forward(group, first_row)
        except Exception as error:
            code = failure_code(error)
        if len(group) == 1:
            return [(group[0], Breakage(first_row, code))]
        middle = len(group) // 2
        left = self._fill_group(group[:middle], first_row)
        num_filled = sum(isinstance(outcome, Draw) for _, outcome in left)
        return left + self._fill_group(group[middle:], first_row + num_filled)

    def _forward(self, group: list[Prefill], first_row: int) -> list[tuple[Prefill, Draw | Breakage]]:
        rows = self._rows
        prompts = [_prepared(prefill) for prefill in group]
        prefilled = hooks.prefill(self._model, groups.collate(prompts, self._pad_id, self._model.device))
        for offset, (prefill, prompt) in enumerate(zip(group, prompts, strict=True)):
            rows.load(first_row + offset, prefilled, offset, prompt.num_tokens)
            state = RowState.at_start(prefill.sampling, prompt.inputs["input_ids"], prefilled.logits)
            rows.sampler.load(first_row + offset, state)
        draw = rows.sampler.draw(prefilled.logits, first_row)
        rows.tokens[first_row : first_row + len(group), 0] = draw.tokens
        return [(prefill, draw.of(offset)) for offset, prefill in enumerate(group)]


def _prepared(prefill: Prefill) -> Prepared:
    if not isinstance(prefill.prompt, Prepared):
        raise TypeError("a prompt for this model must be a Prepared")
    return prefill.prompt


def _pad_id(model: PreTrainedModel) -> int:
    """A token to pad with; masked, so that any would do, but image tokens would ask for images."""
    pad_id = getattr(hooks.text_config(model), "pad_token_id", None)
    return pad_id if isinstance(pad_id, int) and pad_id >= 0 else 0
