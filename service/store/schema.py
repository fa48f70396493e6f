"""The schema's version: bring a database up to ours, and refuse one that is not."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.errors import ConfigurationError
from service.store.database import Database, parse_url

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
# Any number that no other user of the same PostgreSQL server is likely to lock.
MIGRATION_LOCK = 0x51_0C_E0


def migrate(url: str) -> None:
    """Create the schema or bring it up to date; processes that start together wait for one of them."""
    _make_room_for(url)
    database = Database(url)
    try:
        with database.connect() as connection, connection.begin():
            # SQLite's transaction holds the write lock from its beginning.
            if database.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            _refuse_newer(connection)
            command.upgrade(alembic_config(connection), "head")
    finally:
        database.close()


def require_current(database: Database) -> None:
    """Raise ConfigurationError unless the schema is exactly the one this code was written for."""
    with database.connect() as connection:
        revision = _revision(connection)
        _refuse_newer(connection)
    if revision != _scripts().get_current_head():
        raise ConfigurationError(
            "The database has not been brought up to this version's schema.",
            code="database_not_migrated",
            hint="Run `python -m migrations` with the same DATABASE_URL, then start again.",
        )


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration over an open connection, whose transaction stays the caller's."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _refuse_newer(connection: Connection) -> None:
    revision = _revision(connection)
    if revision is not None and revision not in {script.revision for script in _scripts().walk_revisions()}:
        raise ConfigurationError(
            "The database was written by a newer version of Sluice.",
            code="database_too_new",
            hint="Install that version, or name another database with DATABASE_URL or --data-dir.",
        )


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))


def _make_room_for(url: str) -> None:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
