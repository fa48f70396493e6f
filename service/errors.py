"""One family of exceptions: each knows its HTTP status, its OpenAI words and whether a retry can help."""

from collections.abc import Mapping
from typing import Any


class SluiceError(Exception):
    """Something a caller can be told about: one sentence, and where there is one, a next step.

    `message` never holds text of a foreign exception: such text leaks paths and addresses.
    """

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint
        self.retry_after = retry_after
        if code is not None:
            self.code = code

    def as_dict(self) -> dict[str, Any]:
        """The OpenAI error object, plus `retryable` and `hint` where we have one."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            "retryable": self.retryable,
        }
        if self.hint:
            error["hint"] = self.hint
        return error


class BadRequest(SluiceError):
    """The request itself is wrong; sending it again unchanged cannot help."""

    status, type, code = 400, "invalid_request_error", "invalid_value"


class BadMedia(BadRequest):
    """An image, video or sound that we refuse; `code` says which limit or rule it met."""

    code = "invalid_media"


class MediaUnavailable(SluiceError):
    """Media that is named but cannot be reached: a missing file, a forbidden address."""

    status, type, code = 422, "invalid_request_error", "media_unavailable"


class ContextTooLong(BadRequest):
    """Prompt and answer do not fit the slot."""

    code = "context_length_exceeded"


class Unauthorized(SluiceError):
    """No key, or not a valid one."""

    status, type, code = 401, "authentication_error", "invalid_api_key"


class PermissionDenied(SluiceError):
    """A valid key that does not open this path."""

    status, type, code = 403, "permission_error", "permission_denied"


class TooManyRequests(SluiceError):
    """A quota is used up; `code` says which."""

    status, type, code, retryable = 429, "rate_limit_error", "rate_limit_exceeded", True


class NotFound(SluiceError):
    """Unknown, or another tenant's: the two look the same from outside."""

    status, type, code = 404, "invalid_request_error", "not_found"


class UnknownModel(NotFound):
    """No worker serves a model of this name."""

    code = "model_not_found"


class Conflict(SluiceError):
    """The object is not in a state that allows this. 400, since clients retry 409 by themselves."""

    status, type, code = 400, "invalid_request_error", "invalid_state"


class KeyReused(SluiceError):
    """An Idempotency-Key that came with another request before."""

    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"


class TooLarge(SluiceError):
    """A body over the configured size."""

    status, type, code = 413, "invalid_request_error", "payload_too_large"


class UnsupportedBody(SluiceError):
    """A body of a type or encoding that this path does not read."""

    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class Unavailable(SluiceError):
    """Not now: no worker is ready, or a part of the system is away. A retry can help."""

    status, type, code, retryable = 503, "server_error", "unavailable", True


class ModelNotReady(Unavailable):
    """The model is known, and no worker has it loaded. estimated_time: seconds until one may have."""

    code = "model_not_ready"

    def __init__(self, message: str, *, estimated_time: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, retry_after=estimated_time)
        self.estimated_time = estimated_time

    def as_dict(self) -> dict[str, Any]:
        """The error object with Hugging Face's `estimated_time`."""
        return super().as_dict() | {"estimated_time": self.estimated_time}


class WorkerLost(Unavailable):
    """The worker that ran this request went away and the request has no attempts left, or its stream was cut."""

    code = "worker_lost"


class TimedOut(SluiceError):
    """The answer took longer than the operator allows; the request was cancelled."""

    status, code, retryable = 504, "timeout", True


class OutOfMemory(SluiceError):
    """This one request does not fit the device, even alone."""

    status, type, code = 400, "invalid_request_error", "out_of_memory"


class ModelFailed(SluiceError):
    """The model gave numbers that are not finite, or raised, on this one request."""

    code = "model_failed"


class StorageFull(SluiceError):
    """The disk or the database is full; nothing was accepted."""

    status, code, retryable = 507, "insufficient_storage", True


class ConfigurationError(SluiceError):
    """The operator has to change something before we can start."""

    code = "configuration_error"


def error_from_dict(error: Mapping[str, Any], status: int) -> SluiceError:
    """Rebuild an error that crossed a process boundary, so that it answers HTTP as it would have there."""
    rebuilt = SluiceError(
        str(error.get("message") or "The request failed."),
        param=error.get("param"),
        code=error.get("code"),
        hint=error.get("hint"),
    )
    rebuilt.status = status
    rebuilt.type = str(error.get("type") or "server_error")
    rebuilt.retryable = bool(error.get("retryable", False))
    return rebuilt
