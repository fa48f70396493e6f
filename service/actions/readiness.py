"""Whether a chat would be answered now."""

from service.actions.parts import Parts
from service.errors import Unavailable
from service.store import workers

RETRY_AFTER_SECONDS = 5


def ready_models(parts: Parts) -> list[str]:
    """Names of the models that a worker with a live lease has loaded."""
    with parts.database.reading() as db:
        return sorted({served.model for served in workers.ready_models(db)})


def require_ready(parts: Parts) -> list[str]:
    """The same, or Unavailable where there is none, or no database."""
    ready = ready_models(parts)
    if not ready:
        raise Unavailable("No model is ready yet.", code="model_not_ready", retry_after=RETRY_AFTER_SECONDS)
    return ready
