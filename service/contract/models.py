"""Models on the wire, as the openai client expects them."""

from typing import Literal

from pydantic import BaseModel


class ModelObject(BaseModel):
    """OpenAI: the model object. status is ours: whether a worker would answer now."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sluice"
    status: Literal["ready", "not_ready"]


class ModelList(BaseModel):
    """All models; there is one page."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
