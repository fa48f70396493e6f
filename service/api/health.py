"""Probes. Neither needs a key, and neither says more than whether we live and whether a model can answer."""

from typing import Literal

from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel

from service.actions.readiness import require_ready
from service.api.context import current_parts
from service.api.errors import REFUSALS

api = APIBlueprint("health", __name__, abp_responses=REFUSALS)


class Health(BaseModel):
    """This process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """A model can answer. models: the names of those that can."""

    status: Literal["ready"] = "ready"
    models: list[str]


@api.get("/health", responses={200: Health})
def health() -> Health:
    """Whether this process is alive; it looks at nothing else."""
    return Health()


@api.get("/ready", responses={200: Ready})
def ready() -> Ready:
    """Whether a chat would be answered: the database is there, and a live worker has a model loaded."""
    return Ready(models=require_ready(current_parts()))
