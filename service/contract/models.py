"""Models on the wire, as the openai client expects them, and what a worker knows of a model that it serves."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

ModelStatus: TypeAlias = Literal["ready", "loading", "failed", "not_ready"]


class Quantization(BaseModel):
    """How weights are stored. bits: of each weight; several numbers where layers differ."""

    method: str
    bits: int | list[int]
    group_size: int


class ModelFacts(BaseModel):
    """What a worker tells of a model that it serves.

    context_length: tokens of prompt and answer together. load_seconds: from the worker's start until it could answer.
    """

    model_config = ConfigDict(frozen=True)

    input_modalities: list[str]
    context_length: int
    quantization: Quantization | None = None
    dtype: str | None = None
    load_seconds: float | None = None


class ModelObject(BaseModel):
    """OpenAI: the model object. The fields after `owned_by` are ours, null while no worker has told them.

    status: whether a worker would answer now, loads the model, or could not load it. created: Unix seconds since when
    it is ready. aliases: other names for it. estimated_time: seconds until a model that loads may be ready.
    """

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sluice"
    status: ModelStatus
    aliases: list[str] = []
    input_modalities: list[str] | None = None
    output_modalities: list[str] = ["text"]
    context_length: int | None = None
    quantization: Quantization | None = None
    dtype: str | None = None
    revision: str | None = None
    estimated_time: float | None = None


class ModelList(BaseModel):
    """All models; there is one page."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
