"""The one lifecycle: the states of a job and of a batch. The moves between them are the store's guarded statements."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. The last five are terminal, and terminal is final.

    held: its batch is paused, and no worker looks at it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    BACKOFF = "backoff"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"

    @property
    def is_terminal(self) -> bool:
        """Whether the job will never move again."""
        return self in TERMINAL


TERMINAL = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED, JobState.DEAD}
)
# No worker has these: they can end, or change, at once.
WAITING = frozenset({JobState.QUEUED, JobState.BACKOFF, JobState.HELD})
# These have exactly one row in `results`; cancelled and expired jobs are exported from their state.
WITH_RESULT = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.DEAD})


class JobClass(StrEnum):
    """Which of its tenant's lanes a job waits in: chat has a listener and goes first."""

    CHAT = "chat"
    BULK = "bulk"


class JobStage(StrEnum):
    """How far a running job got: only a job that a worker has begun to handle can be blamed for a crash."""

    CLAIMED = "claimed"
    STARTED = "started"


class BatchState(StrEnum):
    """OpenAI's batch states."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the batch will never move again."""
        return self in BATCH_TERMINAL


BATCH_TERMINAL = frozenset(
    {BatchState.FAILED, BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED}
)
BATCH_OPEN = frozenset(BatchState) - BATCH_TERMINAL


class WorkerRole(StrEnum):
    """What a worker process does: `io` has no torch, `engine` owns a device."""

    IO = "io"
    ENGINE = "engine"
