"""Whether a chat would be answered now."""

from service.actions.model_states import ModelState, estimated_seconds, model_states
from service.actions.parts import Parts
from service.errors import ModelNotReady, Unavailable
from service.store import workers

RETRY_AFTER_SECONDS = 5


def ready_models(parts: Parts) -> list[str]:
    """Names of the models that a worker with a live lease has loaded."""
    with parts.database.reading() as db:
        return sorted({served.model for served in workers.ready_models(db)})


def require_model(parts: Parts, model: str, *, may_load: bool = False) -> None:
    """ModelNotReady unless a live worker has the model loaded, or may still load it where that is enough.

    A model that failed to load is not waited for: only its operator can help.
    """
    state = model_states(parts).get(model, ModelState(model))
    if state.status == "ready" or (may_load and state.status != "failed"):
        return
    if state.status == "failed":
        sentence, hint = (
            f"The model {model!r} could not be loaded.",
            "Ask the operator: the worker's log says why.",
        )
    else:
        sentence = f"The model {model!r} is {'loading' if state.status == 'loading' else 'not ready'}."
        hint = "Send it again in a moment, or with the header `x-wait-for-model: true` to wait."
    raise ModelNotReady(sentence, estimated_time=estimated_seconds(parts, state), hint=hint)


def require_ready(parts: Parts) -> list[str]:
    """The same, or Unavailable where there is none, or no database."""
    ready = ready_models(parts)
    if not ready:
        raise Unavailable("No model is ready yet.", code="model_not_ready", retry_after=RETRY_AFTER_SECONDS)
    return ready
