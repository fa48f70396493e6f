"""The Celery options that senders and workers share: tickets are JSON, cheap to lose, never retried."""

from typing import Any

from celery import Celery

from service.channels.redis_url import broker_url
from service.contract.tickets import IO_QUEUE
from service.settings import Settings

# An unanswered ticket is worth nothing after this: workers poll anyway.
TICKET_EXPIRES_SECONDS = 5.0


def make_celery(settings: Settings) -> Celery:
    """A Celery app on Redis or, where there is none, on files under the data directory."""
    app = Celery("sluice", set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_default_queue=IO_QUEUE,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        **_broker(settings),
    )
    return app


def _broker(settings: Settings) -> dict[str, Any]:
    if settings.redis_url:
        return {"broker_url": broker_url(settings.redis_url)}
    folder = settings.data_dir.resolve() / "broker"
    folders = {name: folder / name for name in ("tickets", "control")}
    for each in folders.values():
        each.mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(folders["tickets"]),
            "data_folder_out": str(folders["tickets"]),
            "control_folder": str(folders["control"]),
        },
    }
