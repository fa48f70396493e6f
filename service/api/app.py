"""The web process: which routes there are, who may call them, and what it answers when it cannot."""

from functools import partial
from typing import Any

from flask import Flask, Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel

from service.actions.parts import Parts, assemble
from service.api import (
    admin,
    auth,
    batch_controls,
    batches,
    chat,
    documents,
    errors,
    files,
    health,
    jobs,
    metrics,
    models,
    preflight,
    quotas,
    responses,
    results,
    tokens,
    transcriptions,
    usage,
    webhooks,
)
from service.api.context import EXTENSION, name_requests
from service.api.paths import OtherPaths
from service.api.request import ApiRequest
from service.settings import Settings

UPLOADS = frozenset({"files.create_file", "jobs.create_job", "preflight.create_preflight"})
BLUEPRINTS = (
    chat.api,
    responses.api,
    transcriptions.api,
    tokens.api,
    files.api,
    batches.api,
    batch_controls.api,
    results.api,
    jobs.api,
    preflight.api,
    webhooks.api,
    models.api,
    usage.api,
    admin.api,
    health.api,
    metrics.api,
)


class Api(OpenAPI):
    """A Flask app whose handlers return pydantic models."""

    def make_response(self, rv: Any) -> Response:
        """Turn what a handler returned into a response. rv: a model, or (model, status, headers)."""
        match rv:
            case BaseModel():
                return _json(rv)
            case (BaseModel() as body, int(status), dict(headers)):
                response = _json(body)
                response.status_code = status
                response.headers.extend(headers)
                return response
        return super().make_response(rv)

    def register_api(self, api: APIBlueprint, **options: Any) -> None:
        """Add a blueprint's routes. The library forgets what another one described at the same path."""
        described = dict(self.paths)
        super().register_api(api, **options)
        for path, item in api.paths.items():
            if path in described:
                methods = {method: getattr(item, method) for method in item.model_fields_set}
                self.paths[path] = described[path].model_copy(update=methods)


def create_app(settings: Settings | None = None, parts: Parts | None = None) -> Flask:
    """The Flask app. Nothing connects before the first request, so that servers may fork after this."""
    parts = parts or assemble(settings or Settings(), only_looks_up=True, is_waited_for=True)
    app = Api(
        "service",
        info=Info(title="Sluice", version="1"),
        validation_error_status=400,
        validation_error_model=errors.ErrorReply,
        validation_error_callback=errors.refuse_invalid,
        doc_ui=False,
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        openapi_extensions={"security": [{"key": []}]},
        static_folder=None,
    )
    app.url_map.strict_slashes = False
    app.request_class = _request_class(parts)
    app.extensions[EXTENSION] = parts
    name_requests(app)
    metrics.count_requests(app)
    app.before_request(partial(_limit_body, parts.settings))
    auth.know_callers(app)
    quotas.hold_quotas(app)
    errors.answer_errors(app)
    for blueprint in BLUEPRINTS:
        app.register_api(blueprint)
    documents.describe(app)
    app.wsgi_app = OtherPaths(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), content_type="application/json")


def _request_class(parts: Parts) -> type[ApiRequest]:
    spool_dir = parts.settings.data_dir / "spool"
    spool_dir.mkdir(parents=True, exist_ok=True)
    return type("SpoolingRequest", (ApiRequest,), {"spool_dir": spool_dir})


def _limit_body(settings: Settings) -> None:
    is_upload = request.endpoint in UPLOADS
    request.max_content_length = settings.max_upload_bytes if is_upload else settings.max_request_bytes
