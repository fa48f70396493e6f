"""The lines of `/v1/batches/{id}/results`, for those who read the document of the API."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from service.contract.replies import CompletionUsage


class LineResponse(BaseModel):
    """What the endpoint answered: its reply, or its error under `error`."""

    model_config = ConfigDict(extra="forbid")

    status_code: int
    request_id: str
    body: dict[str, Any] | None


class LineError(BaseModel):
    """Why a line was never run. hint: what to do about it."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    retryable: bool
    hint: str


class ResultLine(BaseModel):
    """OpenAI's output line with our fields beside it.

    line: its line in the manifest. status: succeeded, failed, dead, cancelled or expired. finished_at: Unix seconds.
    provenance: as in a job. cursor: asks for what comes after this line.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    custom_id: str | None
    response: LineResponse | None
    error: LineError | None
    line: int | None
    status: str
    model: str
    attempts: int
    finished_at: float | None
    usage: CompletionUsage | None
    provenance: dict[str, Any] | None
    cursor: str
