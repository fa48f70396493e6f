"""Webhooks on the wire: the endpoints as the openai client makes them, and the events as it unwraps them.

Deliveries are signed as Standard Webhooks says: HMAC-SHA256 over `id.timestamp.body`.
"""

import base64
import hashlib
import hmac
from typing import Annotated, Literal, TypeAlias

import orjson
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

# Of batches, and of responses that run in the background.
EventType: TypeAlias = Literal[
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.cancelled",
]
EventTypes: TypeAlias = Annotated[list[EventType], Field(min_length=1, max_length=16)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=255)]
Url: TypeAlias = Annotated[str, Field(min_length=1, max_length=2048)]

SECRET_START = "whsec_"


class CreateWebhook(BaseModel):
    """Where to send which events. `events` is another name for `event_types`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: Url
    event_types: EventTypes = Field(validation_alias=AliasChoices("event_types", "events"))
    name: Name = "webhook"


class UpdateWebhook(BaseModel):
    """What to change. A webhook that was switched off, since its receiver said that it is gone, is on again."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: Url | None = None
    event_types: EventTypes | None = None
    name: Name | None = None


class RotateSecret(BaseModel):
    """keep_old_secret_active_for_24_hours: let both secrets sign for a day."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    keep_old_secret_active_for_24_hours: bool = False


class TestWebhook(BaseModel):
    """Which event to make up."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    event_type: EventType


class WebhookObject(BaseModel):
    """OpenAI: the webhook endpoint; the last five fields are ours. The `*_at` are Unix seconds.

    status: `failing` while its last delivery failed; `disabled` once its receiver answered 410 Gone.
    pending: events that it has yet to hear of. last_error: why a delivery failed, most recently at last_failed_at.
    """

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    status: Literal["active", "failing", "disabled"] = "active"
    pending: int = 0
    last_delivered_at: int | None = None
    last_failed_at: int | None = None
    last_error: str | None = None


class WebhookWithSecret(WebhookObject):
    """A webhook that was just made, or was given a new secret, which is shown this once."""

    signing_secret: str


class WebhookList(BaseModel):
    """A page of webhooks."""

    object: Literal["list"] = "list"
    data: list[WebhookObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class DeletedWebhook(BaseModel):
    """What deleting a webhook answers."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool = True


class WebhookTestResult(BaseModel):
    """What the receiver answered to a made-up event."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    success: Literal[True] = True
    webhook_endpoint_id: str
    event_type: str
    status_code: int


def event_body(event_id: str, event_type: str, created_at: int, object_id: str) -> bytes:
    """An event as it is sent."""
    event = {"id": event_id, "object": "event", "created_at": created_at, "type": event_type}
    return orjson.dumps(event | {"data": {"id": object_id}})


def signed_headers(event_id: str, timestamp: int, body: bytes, secrets: list[str]) -> dict[str, str]:
    """The headers of a delivery. timestamp: of this attempt. secrets: `whsec_…`; each of them signs."""
    signed = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_START))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
