"""A job that has ended, as those see it who write results: files, streams and tables."""

from dataclasses import dataclass, field

from service.contract.jobs import Usage
from service.contract.lifecycle import JobState


@dataclass(frozen=True, slots=True)
class EndedJob:
    """One ended job of a batch. body: JSON bytes of its reply or its error; None if it was cancelled or expired.

    provenance: JSON bytes. finished_at: seconds since 1970. is_over_budget: cancelled since the budget was spent.
    """

    job_id: int
    line_no: int | None
    custom_id: str | None
    state: JobState
    model: str
    attempt: int = 0
    finished_at: float | None = None
    body: bytes | None = None
    provenance: bytes | None = None
    usage: Usage = field(default_factory=Usage)
    is_over_budget: bool = False

    @property
    def known_as(self) -> str | None:
        """Its custom_id. A line whose own could not be read, or belonged to another line, goes by its number."""
        if self.state is JobState.SUCCEEDED:
            return self.custom_id
        return self.custom_id or f"line-{self.line_no}"
