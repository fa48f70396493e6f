"""The recipe: first learn to see, then, with the eyes held still, to answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.training.scenes import NARROW, WIDE, Reach

SEED = 20261120


@dataclass(frozen=True)
class SeeStage:
    """The vision tower alone, on dense labels of every soft token."""

    name: str
    num_steps: int
    reach: Reach
    muon_rate: float
    flat: float
    num_easy_steps: int = 0
    adam_rate: float = 1.5e-3
    warmup_steps: int = 40
    pictures_per_process: int = 32


@dataclass(frozen=True)
class Rows:
    """Sequences of one modality per process and step: how many, how long in tokens, how many questions each."""

    count: int
    num_tokens: int
    questions: int


@dataclass(frozen=True)
class AnswerStage:
    """Everything but the vision tower, on answers; pairs also on dense labels inside the decoder."""

    name: str
    num_steps: int
    reach: Reach
    rows: Mapping[str, Rows]
    pair_labels: float
    flat: float = 1.0
    num_easy_steps: int = 0
    muon_rate: float = 5e-3
    adam_rate: float = 2e-3
    warmup_steps: int = 20
    weights: Mapping[str, float] = field(default_factory=dict)


Stage = SeeStage | AnswerStage
WEIGHTS = {"image": 1.0, "pair": 0.6, "video": 0.5, "audio": 0.4, "mixed": 0.4, "text": 0.2}

RECIPE: tuple[Stage, ...] = (
    SeeStage("see", 1300, NARROW, muon_rate=5e-3, flat=0.55, num_easy_steps=200),
    SeeStage("see more", 700, WIDE, muon_rate=4e-3, flat=0.35),
    AnswerStage(
        "first words",
        400,
        NARROW,
        rows={
            "image": Rows(10, 256, 9),
            "pair": Rows(5, 288, 6),
            "video": Rows(4, 416, 6),
            "audio": Rows(5, 208, 6),
            "mixed": Rows(3, 336, 5),
            "text": Rows(2, 320, 10),
        },
        pair_labels=0.3,
        num_easy_steps=250,
        warmup_steps=60,
    ),
    AnswerStage(
        "pairs",
        300,
        NARROW,
        rows={
            "image": Rows(6, 256, 9),
            "pair": Rows(14, 216, 3),
            "video": Rows(3, 416, 6),
            "audio": Rows(4, 208, 6),
            "text": Rows(2, 256, 8),
        },
        pair_labels=1.0,
        weights={"pair": 1.5},
    ),
    AnswerStage(
        "everything",
        800,
        WIDE,
        rows={
            "image": Rows(10, 256, 9),
            "pair": Rows(6, 216, 3),
            "video": Rows(3, 416, 6),
            "audio": Rows(10, 176, 4),
            "mixed": Rows(4, 336, 5),
            "text": Rows(2, 256, 8),
        },
        pair_labels=0.3,
        flat=0.4,
        muon_rate=4e-3,
        weights={"pair": 1.0, "audio": 0.8, "mixed": 0.5},
    ),
)
