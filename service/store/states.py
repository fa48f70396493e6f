"""Job states as SQL constants: a partial index serves a query only if the state stands in its text."""

from sqlalchemy import ColumnElement, literal

from service.contract.lifecycle import JobState
from service.store.tables import Job


def constant(state: JobState) -> ColumnElement[JobState]:
    """The state written into the statement instead of sent as a parameter."""
    return literal(state, Job.state.type, literal_execute=True)


QUEUED = constant(JobState.QUEUED)
RUNNING = constant(JobState.RUNNING)
BACKOFF = constant(JobState.BACKOFF)
HELD = constant(JobState.HELD)

_NONE = literal(0, literal_execute=True)
# Whether a job was never, or ever, being handled when its worker died.
CLEAN = Job.crashes == _NONE
SUSPECT = Job.crashes > _NONE
