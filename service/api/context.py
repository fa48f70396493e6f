"""What a request handler may ask for: the parts of this process, who calls, and the request's id."""

import re
import secrets
from typing import cast

from flask import Flask, Response, current_app, g, request

from service.actions.parts import Parts
from service.api.request import ApiRequest
from service.contract.callers import Caller

EXTENSION = "sluice"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def current_parts() -> Parts:
    """The parts that `create_app` was given."""
    return cast("Parts", current_app.extensions[EXTENSION])


def current_caller() -> Caller:
    """Who asks, as `authenticate` found out."""
    return cast("Caller", g.caller)


def current_request() -> ApiRequest:
    """The request, with our own way to read bodies."""
    return cast("ApiRequest", request)


def current_request_id() -> str:
    """The id that this request is known by, in the response and in the logs."""
    return cast("str", g.request_id)


def name_requests(app: Flask) -> None:
    """Give every request an id, the client's own where it is a sane one, and say it in every response."""

    def remember() -> None:
        given = request.headers.get("x-request-id", "")
        g.request_id = given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"

    def tell(response: Response) -> Response:
        response.headers["x-request-id"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    app.before_request(remember)
    app.after_request(tell)
