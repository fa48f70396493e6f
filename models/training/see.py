"""The first lesson: what is in the cell behind every soft token."""

import numpy as np
import torch

from models.training.labels import HEADS, dense_labels, dense_loss, normalized
from models.training.learner import Learner
from models.training.pictures import stack, to_patches
from models.training.scenes import compose, render
from models.training.stages import SeeStage

EASY_COUNTS = (0.5, 0.3, 0.2, 0.0, 0.0)
COUNTS = (0.2, 0.28, 0.3, 0.11, 0.11)


class SeeTask:
    """Teaches the vision tower from dense labels."""

    names = ("loss", *(head.name for head in HEADS))

    def __init__(self, learner: Learner, stage: SeeStage) -> None:
        self.tower = learner.model.model.vision_tower
        self.head = learner.heads["vision"]
        self.stage = stage
        self.errors: dict[str, float] = {}
        learner.model.requires_grad_(False)
        self.tower.requires_grad_(True)
        learner.compile(self.tower.encoder.layers, dynamic=False)
        self.named_parameters = list(learner.vision_parameters())

    def backward(self, rng: np.random.Generator, step: int) -> torch.Tensor:
        """Add the gradients of one batch. Returns [2, names]: what was counted, and how often."""
        counts = EASY_COUNTS if step < self.stage.num_easy_steps else COUNTS
        pictures, labels = [], []
        for num_shapes in rng.choice(5, self.stage.pictures_per_process, p=counts) + 1:
            scene = compose(rng, int(num_shapes), self.stage.reach)
            patches = to_patches(render(rng, scene))
            pictures.append(patches)
            labels.append(dense_labels(scene, patches.columns, patches.rows))
        pixels, positions = stack(pictures)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.tower(pixels, positions).last_hidden_state
        loss, accuracy = dense_loss(self.head(normalized(hidden)), torch.from_numpy(np.concatenate(labels)))
        loss.backward()  # type: ignore[no-untyped-call]
        tally = torch.tensor([loss.item(), *accuracy.values()])
        return torch.stack([tally.nan_to_num(), (~tally.isnan()).float()])

    def learn_from(self, tally: torch.Tensor) -> None:
        """Nothing to adapt: all pictures are equally useful."""
