"""gunicorn's options: `gunicorn -c python:service.gunicorn_config service.wsgi:app`."""

import os
import socket
from typing import Any

from service.actions.authenticate import require_safe_address
from service.api.lasting import CLOSING
from service.errors import ConfigurationError
from service.settings import Settings
from service.store.database import Database

bind = "127.0.0.1:8000"
worker_class = "gthread"
# One process, since a chat that waits costs a thread and no more; run several behind a proxy where one is too few.
workers = 1
threads = 256
keepalive = 5
graceful_timeout = 30
# Of no concern to long requests: a worker of this class answers its master from a thread of its own.
timeout = 60
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 16384
proc_name = "sluice-api"


def on_starting(server: Any) -> None:
    """Refuse to listen beyond this machine while no API key exists."""
    database = Database(Settings().database_url)
    try:
        for address in server.address:
            require_safe_address(_host(address), database)
    except ConfigurationError as error:
        server.log.error("%s", error.message)
        raise SystemExit(1) from None
    finally:
        database.close()


def post_worker_init(worker: Any) -> None:
    """Let answers that would last for hours end when the server stops."""
    worker.wsgi.extensions[CLOSING] = lambda: not worker.alive


def _host(address: Any) -> str:
    """The host of a bind: (host, port), the path of a unix socket, or the number of an inherited socket."""
    if isinstance(address, int):
        with socket.socket(fileno=os.dup(address)) as inherited:
            address = inherited.getsockname()
    return str(address[0]) if isinstance(address, tuple) else "unix:"
