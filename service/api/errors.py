"""Every refusal and every failure, ours or the framework's, in OpenAI's shape."""

import errno
import logging
import math
from typing import NoReturn

import orjson
from flask import Flask, Response, request
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from service.api.context import current_request_id
from service.api.encodings import ACCEPTED, UnknownEncoding
from service.contract.plain_errors import bad_request
from service.errors import NotFound, SluiceError, StorageFull, TooLarge, Unavailable

log = logging.getLogger(__name__)

# The official client gives up when it is told to wait longer than this.
MAX_RETRY_AFTER_SECONDS = 120
DEFAULT_RETRY_AFTER_SECONDS = 5
SENTENCES = {
    400: "The request could not be read.",
    405: "This path does not take this method.",
    415: "This path does not take this type of body.",
}


class ErrorObject(BaseModel):
    """What went wrong. retryable: whether the same request may succeed later. hint: what to change.

    estimated_time: seconds until the model may be ready, where that is what is missing.
    """

    message: str
    type: str
    param: str | None
    code: str | None
    retryable: bool = False
    hint: str | None = None
    estimated_time: float | None = None


class ErrorReply(BaseModel):
    """The body of every answer that is not a success. estimated_time: again, where Hugging Face's clients look."""

    error: ErrorObject
    estimated_time: float | None = None


# What any route may answer besides its own success, for the OpenAPI document.
REFUSALS: ResponseDict = dict.fromkeys(
    (400, 401, 403, 404, 413, 415, 422, 429, 500, 503, 504, 507), ErrorReply
)


def answer_errors(app: Flask) -> None:
    """Install the handlers."""
    app.register_error_handler(SluiceError, _ours)
    app.register_error_handler(HTTPException, _of_the_framework)
    app.register_error_handler(Exception, _unforeseen)


def refuse_invalid(error: ValidationError) -> NoReturn:
    """Say a failed validation of query, path, form or body in our own words."""
    raise bad_request(error)


def error_response(error: SluiceError) -> Response:
    """The error as an HTTP response."""
    told = error.as_dict()
    body = {"error": told}
    if "estimated_time" in told:
        body["estimated_time"] = told["estimated_time"]
    response = Response(orjson.dumps(body), status=error.status, content_type="application/json")
    if error.status in (429, 503):
        seconds = DEFAULT_RETRY_AFTER_SECONDS if error.retry_after is None else error.retry_after
        response.headers["Retry-After"] = str(min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(seconds))))
    if isinstance(error, UnknownEncoding):
        response.headers["Accept-Encoding"] = ACCEPTED
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _ours(error: SluiceError) -> Response:
    if error.status >= 500 and not isinstance(error, Unavailable):
        log.warning("%s %s: %s (%s)", request.method, request.path, error.code, current_request_id())
    return error_response(error)


def _of_the_framework(error: HTTPException) -> Response:
    if isinstance(error, RequestEntityTooLarge):
        return error_response(TooLarge("The body is larger than this server accepts."))
    if error.code == 404:
        return error_response(NotFound("There is nothing at this path.", code="unknown_url"))
    refusal = SluiceError(SENTENCES.get(error.code or 500, "The request failed."), code="bad_request")
    refusal.status = error.code or 500
    refusal.type = "invalid_request_error" if refusal.status < 500 else "server_error"
    response = error_response(refusal)
    for name, value in error.get_headers(request.environ):
        if name == "Allow":
            response.headers[name] = value
    return response


def _unforeseen(error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error_response(StorageFull("The disk is full; nothing was accepted."))
    log.error("%s %s failed (%s)", request.method, request.path, current_request_id(), exc_info=error)
    return error_response(SluiceError(f"Something went wrong on our side. Request: {current_request_id()}."))
