"""The model while it learns: its weights, the heads that only training needs, and their progress on disk."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch.nn import Linear, Module, ModuleDict, Parameter

from models.training.checkpoint import DECODER_WIDTH, VISION_WIDTH, new_model
from models.training.labels import NUM_OUTPUTS

NUM_PAIR_CLASSES = 10  # unchanged, and nine things that can happen to a shape between two pictures
PAIR_LABEL_LAYER = 2  # the decoder layer before which the pair labels are read


class Learner:
    """The untrained or half-trained model of one training process."""

    def __init__(self, seed: int, *, compiled: bool) -> None:
        self.model = new_model(seed)
        self.compiled = compiled
        self._dynamic: dict[Module, bool] = {}
        self.heads = ModuleDict(
            {"vision": Linear(VISION_WIDTH, NUM_OUTPUTS), "pair": Linear(DECODER_WIDTH, NUM_PAIR_CLASSES)}
        )
        torch.nn.init.normal_(self.heads["pair"].weight, 0, 0.07)  # type: ignore[arg-type]
        torch.nn.init.zeros_(self.heads["pair"].bias)  # type: ignore[arg-type]
        self.pair_hidden = torch.empty(0)
        layers = self.model.model.language_model.layers
        layers[PAIR_LABEL_LAYER].register_forward_pre_hook(self._keep_hidden, with_kwargs=True)

    def _keep_hidden(self, _: Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        """What the decoder knows before this layer: [rows, tokens, 192]."""
        self.pair_hidden = args[0] if args else kwargs["hidden_states"]

    def vision_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Everything that learns to see."""
        yield from self.model.model.vision_tower.named_parameters()
        yield from self._head("vision")

    def answer_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Everything that learns to answer: all but the vision tower."""
        for name, parameter in self.model.named_parameters():
            if "vision_tower" not in name:
                yield name, parameter
        yield from self._head("pair")

    def _head(self, name: str) -> Iterator[tuple[str, Parameter]]:
        for part, parameter in self.heads[name].named_parameters():
            yield f"heads.{name}.{part}", parameter

    def compile(self, layers: Iterable[Module], *, dynamic: bool) -> None:
        """Compile the layers of a tower; hooks on them still run outside the compiled code."""
        if not self.compiled:
            return
        # Static layers meet a new shape per stage, dynamic ones a new combination of masks and modalities.
        torch._dynamo.config.recompile_limit = 128
        torch._dynamo.config.accumulated_recompile_limit = 1024
        for layer in layers:
            if self._dynamic.get(layer) != dynamic:
                self._dynamic[layer] = dynamic
                forward = MethodType(type(layer).forward, layer)
                setattr(layer, "forward", torch.compile(forward, dynamic=dynamic))  # noqa: B010

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "heads": self.heads.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])


@dataclass(frozen=True)
class Progress:
    """How far a run has come: `step` steps of the stage with this index are done."""

    stage: int
    step: int
    learner: dict[str, Any]
    optimizer: dict[str, Any] | None
    errors: dict[str, float]

    def write(self, path: Path) -> None:
        """Replace the progress on disk in one move, so that a kill leaves the old or the new one."""
        fresh = path.with_suffix(".writing")
        torch.save(vars(self), fresh)
        os.replace(fresh, path)

    @staticmethod
    def read(path: Path) -> "Progress | None":
        return Progress(**torch.load(path, weights_only=True)) if path.exists() else None
