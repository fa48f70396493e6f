"""GET /v1/models."""

from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel

from service.actions.list_models import get_model, list_models
from service.api.context import current_parts
from service.api.errors import REFUSALS
from service.contract.models import ModelList, ModelObject

api = APIBlueprint("models", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class ModelPath(BaseModel):
    """model: a name from the list, or `default`. Hub names have slashes."""

    model: str


@api.get("/models", responses={200: ModelList})
def models() -> ModelList:
    """The models that can be asked for. OpenAI: GET /v1/models."""
    return ModelList(data=list_models(current_parts()))


@api.get("/models/<path:model>", responses={200: ModelObject})
def model(path: ModelPath) -> ModelObject:
    """One model by name or alias. OpenAI: GET /v1/models/{model}."""
    return get_model(current_parts(), path.model)
