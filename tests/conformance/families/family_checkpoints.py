"""Every family's checkpoint by its name, written and loaded once each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gemma_checkpoints
import idefics_checkpoints
import llama_checkpoints
import mistral_checkpoints
import omni_checkpoints
import qwen_checkpoints
import voxtral_checkpoints
from checkpoint_parts import Checkpoint
from family_conversations import Request, conversations

from workers.model.loading import Loaded, LoadOptions, load

CHECKPOINTS: dict[str, Checkpoint] = {
    **gemma_checkpoints.CHECKPOINTS,
    **idefics_checkpoints.CHECKPOINTS,
    **llama_checkpoints.CHECKPOINTS,
    **mistral_checkpoints.CHECKPOINTS,
    **omni_checkpoints.CHECKPOINTS,
    **qwen_checkpoints.CHECKPOINTS,
    **voxtral_checkpoints.CHECKPOINTS,
}


@dataclass(frozen=True, eq=False)
class Family:
    """One family's checkpoint, written, loaded as a worker loads it, and ready for conversations."""

    name: str
    folder: Path
    checkpoint: Checkpoint
    loaded: Loaded

    @property
    def conversations(self) -> dict[str, Request]:
        """What this family is asked."""
        needs = self.loaded.needs
        return conversations(needs.takes, needs.audio_rate, mixes=self.name != "smolvlm")

    def token_id(self, token: str) -> int:
        """The number of a token."""
        tokenizer: Any = self.loaded.prompter._original.tokenizer
        return int(tokenizer.convert_tokens_to_ids(token))


def families_under(folder: Path) -> Callable[[str], Family]:
    """Families by their names, written into sub-folders at their first use."""

    @cache
    def family(name: str) -> Family:
        checkpoint, place = CHECKPOINTS[name], folder / name
        place.mkdir()
        checkpoint.save(place)
        loaded = load(LoadOptions(model=str(place), device="cpu", dtype="float32"))
        return Family(name, place, checkpoint, loaded)

    return family
