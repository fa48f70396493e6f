"""gunicorn's options: `gunicorn -c python:service.gunicorn_config service.wsgi:app`."""

from typing import Any

from service.actions.authenticate import require_safe_address
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
# No limit: a worker of this class is not judged by how long a request takes, only by whether it answers its master.
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
            host = address[0] if isinstance(address, tuple) else "unix:"
            require_safe_address(host, database)
    except ConfigurationError as error:
        server.log.error("%s", error.message)
        raise SystemExit(1) from None
    finally:
        database.close()
