"""What can be asked for, and what of it is ready."""

from service.actions.known_models import known_models, unknown_model
from service.actions.parts import Parts
from service.actions.readiness import ready_models
from service.contract.models import ModelObject


def list_models(parts: Parts) -> list[ModelObject]:
    """Every model by the name under which it is served."""
    ready = ready_models(parts)
    return [_model(name, ready) for name in sorted(set(known_models(parts).values()))]


def get_model(parts: Parts, name: str) -> ModelObject:
    """One model, by name or alias."""
    known = known_models(parts)
    if name not in known:
        raise unknown_model(name, known)
    return _model(known[name], ready_models(parts))


def _model(name: str, ready: list[str]) -> ModelObject:
    return ModelObject(id=name, status="ready" if name in ready else "not_ready")
