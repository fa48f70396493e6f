"""/v1/webhook_endpoints: who hears of the end of batches."""

from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from service.actions.keep_webhooks import (
    create_webhook,
    delete_webhook,
    get_webhook,
    list_webhooks,
    rotate_secret,
    try_webhook,
    update_webhook,
)
from service.api.context import current_caller, current_parts
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import IdempotencyHeader
from service.contract.webhooks import (
    CreateWebhook,
    DeletedWebhook,
    RotateSecret,
    TestWebhook,
    UpdateWebhook,
    WebhookList,
    WebhookObject,
    WebhookTestResult,
    WebhookWithSecret,
)

api = APIBlueprint("webhooks", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class WebhookPath(BaseModel):
    """webhook_endpoint_id: `wh_…`."""

    webhook_endpoint_id: str


class WebhooksQuery(Described):
    """A page of webhooks, newest first. after: the last id of the page before."""

    after: str | None = None
    limit: int = Field(default=20, ge=1, le=100)


@api.post("/webhook_endpoints", responses={200: WebhookWithSecret})
def create(header: IdempotencyHeader, body: CreateWebhook) -> WebhookWithSecret:
    """Send events to a URL, signed with a secret that is shown this once. OpenAI: POST /v1/webhook_endpoints."""
    return create_webhook(current_parts(), current_caller(), body, idempotency_key=header.idempotency_key)


@api.get("/webhook_endpoints", responses={200: WebhookList})
def list_(query: WebhooksQuery) -> WebhookList:
    """A page of webhooks. OpenAI: GET /v1/webhook_endpoints."""
    return list_webhooks(current_parts(), current_caller(), after=query.after, limit=query.limit)


@api.get("/webhook_endpoints/<webhook_endpoint_id>", responses={200: WebhookObject})
def get(path: WebhookPath) -> WebhookObject:
    """One webhook and why it last failed. OpenAI: GET /v1/webhook_endpoints/{id}."""
    return get_webhook(current_parts(), current_caller(), path.webhook_endpoint_id)


@api.post("/webhook_endpoints/<webhook_endpoint_id>", responses={200: WebhookObject})
def update(path: WebhookPath, body: UpdateWebhook) -> WebhookObject:
    """Change a webhook, and try it again at once. OpenAI: POST /v1/webhook_endpoints/{id}."""
    return update_webhook(current_parts(), current_caller(), path.webhook_endpoint_id, body)


@api.delete("/webhook_endpoints/<webhook_endpoint_id>", responses={200: DeletedWebhook})
def delete(path: WebhookPath) -> DeletedWebhook:
    """Delete a webhook. OpenAI: DELETE /v1/webhook_endpoints/{id}."""
    return delete_webhook(current_parts(), current_caller(), path.webhook_endpoint_id)


@api.post("/webhook_endpoints/<webhook_endpoint_id>/rotate_secret", responses={200: WebhookWithSecret})
def rotate(path: WebhookPath, body: RotateSecret) -> WebhookWithSecret:
    """Give a webhook a new secret. OpenAI: POST /v1/webhook_endpoints/{id}/rotate_secret."""
    return rotate_secret(
        current_parts(),
        current_caller(),
        path.webhook_endpoint_id,
        keep_old=body.keep_old_secret_active_for_24_hours,
    )


@api.post("/webhook_endpoints/<webhook_endpoint_id>/test", responses={200: WebhookTestResult})
def test(path: WebhookPath, body: TestWebhook) -> WebhookTestResult:
    """Send a made-up event to a webhook. OpenAI: POST /v1/webhook_endpoints/{id}/test."""
    return try_webhook(current_parts(), current_caller(), path.webhook_endpoint_id, body.event_type)
