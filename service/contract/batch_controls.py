"""What can be asked of a batch that is there. Ours; OpenAI knows cancelling alone."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.contract.batches import Metadata, Priority, TokenBudget, Window, seconds_of


class UpdateBatch(BaseModel):
    """POST /v1/batches/{batch_id}. What is left out stays; null takes `metadata` or `token_budget` away.

    priority: of the lines that have not ended. completion_window: counted from the batch's creation.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    priority: Priority | None = None
    completion_window: Window = None
    metadata: Metadata | None = None
    token_budget: TokenBudget | None = None

    @property
    def window_seconds(self) -> int | None:
        """How long the batch may take from its creation on, where the request says."""
        return seconds_of(self.completion_window)


Unanswered = Literal["failed", "dead", "expired", "cancelled"]
UNANSWERED: tuple[Unanswered, ...] = ("failed", "dead", "expired", "cancelled")


class RetryBatch(BaseModel):
    """POST /v1/batches/{batch_id}/retry. states: how the lines that are tried again had ended.

    only_retryable: leave out the lines whose error says that a retry cannot help.
    priority, metadata: the batch's own where left out. completion_window, token_budget: as for a new batch.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    states: Annotated[tuple[Unanswered, ...], Field(strict=False, min_length=1, max_length=4)] = UNANSWERED
    only_retryable: bool = False
    priority: Priority | None = None
    completion_window: Window = None
    metadata: Metadata | None = None
    token_budget: TokenBudget | None = None

    @property
    def window_seconds(self) -> int | None:
        """How long the new batch may take, where the request says."""
        return seconds_of(self.completion_window)
