"""A killed run continues as if nothing had happened."""

from pathlib import Path

import pytest
import torch

from models.training.learner import Progress
from models.training.processor import MediaProcessor
from models.training.scenes import NARROW, WIDE
from models.training.stages import AnswerStage, Rows, SeeStage, Stage
from models.training.train import Run

TOY: tuple[Stage, ...] = (
    SeeStage("see", 2, NARROW, muon_rate=5e-3, flat=1.0, pictures_per_process=2),
    AnswerStage(
        "answer",
        2,
        WIDE,
        rows={
            "image": Rows(1, 160, 2),
            "pair": Rows(2, 216, 2),
            "audio": Rows(1, 208, 2),
            "text": Rows(1, 128, 2),
        },
        pair_labels=0.5,
    ),
)


def _run(out: Path, processor: MediaProcessor) -> Run:
    processor.save_pretrained(out / "tokenizer")
    return Run(out, TOY, rank=0, world=1, compiled=False)


@pytest.mark.parametrize("stops", [(1, 1), (2,), (3,)])
def test_a_run_stopped_at_any_step_ends_with_the_same_weights(
    tmp_path: Path, processor: MediaProcessor, stops: tuple[int, ...]
) -> None:
    _run(tmp_path / "unbroken", processor).finish()
    for stop in stops:
        _run(tmp_path / "broken", processor).finish(stop_after=stop)
    _run(tmp_path / "broken", processor).finish()

    unbroken, broken = (Progress.read(tmp_path / name / "progress.pt") for name in ("unbroken", "broken"))

    assert unbroken is not None
    assert broken is not None
    assert unbroken.errors == broken.errors
    for name, weight in unbroken.learner["model"].items():
        assert torch.equal(weight, broken.learner["model"][name]), name
    assert (tmp_path / "broken" / "model" / "model.safetensors").exists()
