"""What can be asked for, and what of it is ready."""

from collections.abc import Mapping
from pathlib import PurePath

from service.actions.known_models import known_models, unknown_model
from service.actions.model_states import ModelState, estimated_seconds, model_states
from service.actions.parts import Parts
from service.contract.models import ModelObject


def list_models(parts: Parts) -> list[ModelObject]:
    """Every model by the name under which it is served."""
    known, states = known_models(parts), model_states(parts)
    return [_model(parts, name, known, states) for name in sorted(set(known.values()))]


def get_model(parts: Parts, name: str) -> ModelObject:
    """One model, by name or alias."""
    known = known_models(parts)
    if name not in known:
        raise unknown_model(name, known)
    return _model(parts, known[name], known, model_states(parts))


def _model(
    parts: Parts, name: str, known: Mapping[str, str], states: Mapping[str, ModelState]
) -> ModelObject:
    state = states.get(name, ModelState(name))
    told = state.facts.model_dump(exclude={"load_seconds"}) if state.facts else {}
    return ModelObject(
        id=name,
        created=int(state.ready_at or 0),
        status=state.status,
        aliases=sorted(
            alias for alias, served in known.items() if served == name and _may_be_told(alias, name)
        ),
        revision=state.revision,
        estimated_time=estimated_seconds(parts, state) if state.status == "loading" else None,
        **told,
    )


def _may_be_told(alias: str, name: str) -> bool:
    """A folder's path is accepted as a name, and nobody's business."""
    return alias != name and not PurePath(alias).is_absolute() and not alias.startswith((".", "~"))
