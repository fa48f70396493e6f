"""One REDIS_URL for two libraries that spell a unix socket differently.

Accepted: `redis://`, `rediss://`, `unix:///path` (redis-py) and `redis+socket:///path` (Celery).
"""

from urllib.parse import parse_qsl, urlencode, urlsplit

from service.errors import ConfigurationError

_SOCKET_SCHEMES = frozenset({"unix", "redis+socket"})


def client_url(redis_url: str) -> str:
    """The URL as redis-py wants it: a socket is `unix:///path?db=0`."""
    return _rewritten(redis_url, scheme="unix", database="db")


def broker_url(redis_url: str) -> str:
    """The URL as Celery wants it: a socket is `redis+socket:///path?virtual_host=0`."""
    return _rewritten(redis_url, scheme="redis+socket", database="virtual_host")


def _rewritten(redis_url: str, *, scheme: str, database: str) -> str:
    parts = urlsplit(redis_url)
    if parts.scheme in ("redis", "rediss"):
        return redis_url
    if parts.scheme not in _SOCKET_SCHEMES or not parts.path:
        raise ConfigurationError(
            "REDIS_URL must start with redis://, rediss:// or unix:///.",
            hint="For example redis://localhost:6379/0 or unix:///run/valkey.sock.",
        )
    options = [
        (database if name in ("db", "virtual_host") else name, value)
        for name, value in parse_qsl(parts.query)
    ]
    return f"{scheme}://{parts.path}" + (f"?{urlencode(options)}" if options else "")
