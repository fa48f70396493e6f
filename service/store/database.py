"""One database, SQLite or PostgreSQL: its connections, its transactions and its clock."""

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeAlias

from sqlalchemy import URL, Connection, Engine, Float, Row, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.errors import ConfigurationError, SluiceError, StorageFull, Unavailable

AnyRow: TypeAlias = Row[*tuple[Any, ...]]

BUSY_SECONDS = 30.0
IDLE_IN_TRANSACTION_SECONDS = 60
POOL_SIZE = 5
INGEST_CACHE_BYTES = 32 << 20
LOOKUP_CACHE_BYTES = 2 << 20
# SQLite lets whoever commits carry so many pages from the log into the file. Where somebody waits for the commit, that
# is left to others, unless nobody does it.
CHECKPOINT_PAGES, LATE_CHECKPOINT_PAGES = 1000, 4000
# SQLite's own wait for the write lock sleeps up to 100 ms at a time; what holds it rarely does for more than a few.
FIRST_LOOK_SECONDS, SLOWEST_LOOK_SECONDS, PATIENT_AFTER_SECONDS = 0.001, 0.01, 0.1
# PostgreSQL's codes for a deadlock, a lock that was not given and a transaction that met another.
WAITED_IN_VAIN = frozenset({"40P01", "40001", "55P03"})
# Older versions can corrupt a WAL that several connections write.
SAFE_SQLITE = (3, 51, 3)


class database_now(FunctionElement[float]):  # noqa: N801 - it reads as the SQL function that it is
    """Seconds since 1970 by the database's clock, the only clock that leases and due times know."""

    type = Float(53)
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(_element: database_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "unixepoch('subsec')"


@compiles(database_now, "postgresql")
def _postgres_now(_element: database_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    # Stable within the statement, so that it may be compared through an index; clock_timestamp() may not.
    return "CAST(extract(epoch FROM statement_timestamp()) AS float8)"


class Database:
    """Hands out short transactions. Connections open on first use, in the process that uses them.

    cache_bytes: of each SQLite connection. Ingests want many pages at hand; a process with many threads that only
    look things up does not. checkpoint_pages: after how many pages in its log SQLite tidies up.
    """

    def __init__(
        self, url: str, *, cache_bytes: int = INGEST_CACHE_BYTES, checkpoint_pages: int = CHECKPOINT_PAGES
    ) -> None:
        self.url = parse_url(url)
        self.dialect = self.url.get_backend_name()
        self._engine = _engine(self.url, cache_bytes, checkpoint_pages)
        self._readers = self._engine.execution_options(reads_only=True)
        _forget_connections_after_fork(self._engine)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Commit on leaving, roll back on an exception. On SQLite the write lock is taken at the start."""
        with (
            _database_errors(),
            Session(self._engine, expire_on_commit=False, autoflush=False) as db,
            db.begin(),
        ):
            yield db

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reads alone; what it reads stays readable after it has ended."""
        with _database_errors(), Session(self._readers, expire_on_commit=False, autoflush=False) as db:
            yield db

    def connect(self) -> Connection:
        """A bare connection, for migrations."""
        return self._engine.connect()

    def ping(self) -> None:
        """Raise Unavailable if the database does not answer."""
        with self.reading() as db:
            db.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()


def insert_into(db: Session, table: type[Any]) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT that knows ON CONFLICT, in the words of the session's database."""
    if db.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table.__table__)
    return postgresql.insert(table.__table__)


def parse_url(url: str) -> URL:
    """A SQLAlchemy URL with the driver that we use; `postgres://` is understood too."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("DATABASE_URL is not a database URL.", hint=_URL_HINT) from None
    match parsed.get_backend_name():
        case "sqlite" if parsed.database:
            return parsed.set(drivername="sqlite")
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
    raise ConfigurationError("DATABASE_URL names a database that we cannot use.", hint=_URL_HINT)


_URL_HINT = "Use sqlite:////path/sluice.db or postgresql://user:password@host/name."


def _engine(url: URL, cache_bytes: int, checkpoint_pages: int) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, module=_sqlite_module(), connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", partial(_open_sqlite, cache_bytes, checkpoint_pages))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        connect_args={"connect_timeout": 10},
    )
    event.listen(engine, "connect", _open_postgres)
    return engine


@cache
def _sqlite_module() -> Any:
    try:
        from pysqlite3 import dbapi2  # type: ignore[import-untyped]
    except ImportError:
        import sqlite3 as dbapi2  # type: ignore[no-redef, unused-ignore]
    if dbapi2.sqlite_version_info < SAFE_SQLITE:
        raise ConfigurationError(
            f"SQLite {dbapi2.sqlite_version} can corrupt a database that several processes write.",
            hint="Install the pysqlite3 wheel, or set DATABASE_URL to a PostgreSQL database.",
        )
    return dbapi2


def _open_sqlite(cache_bytes: int, checkpoint_pages: int, connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, below
    cursor = connection.cursor()
    # Only a new file takes it: larger pages make the ingest of a manifest half as slow again on disk.
    cursor.execute("PRAGMA page_size = 8192")
    _enter_wal(cursor)
    cache = f"cache_size = -{cache_bytes >> 10}"
    log = f"wal_autocheckpoint = {checkpoint_pages}"
    for pragma in ("synchronous = FULL", "foreign_keys = ON", cache, log, "temp_store = MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _enter_wal(cursor: Any) -> None:
    # Changing the journal mode does not honour the busy timeout, so that racing first openers have to retry.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                cursor.execute("PRAGMA journal_mode = WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("reads_only", False):
        connection.exec_driver_sql("BEGIN")
    elif not _takes_write_lock(connection):
        # Once more, so that what stands in the way is raised as SQLAlchemy's error.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _takes_write_lock(connection: Connection) -> bool:
    """Begin to write as soon as nobody else does; False where waiting has not helped, or cannot help."""
    began = time.monotonic()
    cursor: Any = connection.connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 0")
    try:
        while (waited := time.monotonic() - began) < BUSY_SECONDS:
            try:
                cursor.execute("BEGIN IMMEDIATE")
                return True
            except _sqlite_module().OperationalError as error:
                if "locked" not in str(error):
                    return False
            time.sleep(FIRST_LOOK_SECONDS if waited < PATIENT_AFTER_SECONDS else SLOWEST_LOOK_SECONDS)
        return False
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        cursor.close()


def _open_postgres(connection: Any, _record: object) -> None:
    connection.autocommit = True
    # A transaction that was left open pins old rows, which makes every claim slower.
    connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS}s'")
    connection.autocommit = False


def _forget_connections_after_fork(engine: Engine) -> None:
    known = weakref.ref(engine)

    def forget() -> None:
        if (inherited := known()) is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


@contextmanager
def _database_errors() -> Iterator[None]:
    """Say what a caller can act on: a full disk, or a database that is busy or away."""
    try:
        yield
    except DBAPIError as error:
        translated = _translated(error)
        if translated is None:
            raise
        raise translated from error


def _translated(error: DBAPIError) -> SluiceError | None:
    told = str(error.orig)
    if "database or disk is full" in told or getattr(error.orig, "sqlstate", None) == "53100":
        return StorageFull("The database has no room left.", hint="Free disk space, then send it again.")
    if "database is locked" in told or getattr(error.orig, "sqlstate", None) in WAITED_IN_VAIN:
        return Unavailable("The database is busy.", code="database_busy", retry_after=1)
    if error.connection_invalidated or _is_away(error):
        return Unavailable("The database does not answer.", code="database_unavailable", retry_after=2)
    return None


def _is_away(error: DBAPIError) -> bool:
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    lost = sqlstate.startswith(("08", "57P"))
    return isinstance(error, OperationalError) and (lost or "connection" in str(error.orig))
