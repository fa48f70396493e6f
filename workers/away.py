"""What a thread that has to go on does not die of: a database that is away, busy or full."""

from sqlalchemy.exc import DBAPIError

from service.errors import StorageFull, Unavailable

DATABASE_AWAY = (DBAPIError, StorageFull, Unavailable)


def reason(exception: Exception) -> str:
    """A word for the log, without the statement and its values."""
    if isinstance(exception, DBAPIError):
        return type(exception.orig).__name__
    return str(getattr(exception, "code", None) or type(exception).__name__)
