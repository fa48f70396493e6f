"""The schema's way up and down, with people at the door at the same time."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from scenes import add_batch, claim, join, succeed
from sqlalchemy import inspect, text

from service.errors import ConfigurationError
from service.store.database import Database
from service.store.schema import alembic_config, migrate, require_current
from service.store.tables import DEFAULT_TENANT, Base, Tenant


@pytest.fixture
def migrated(empty_database_url: str) -> Iterator[Database]:
    """A database of the test's own, whose schema it may change."""
    migrate(empty_database_url)
    database = Database(empty_database_url)
    yield database
    database.close()


def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    batch = add_batch(database, lines=3)
    worker = join(database)
    succeed(database, claim(database, worker, 2), worker)
    with database.connect() as connection, connection.begin():
        command.check(alembic_config(connection))
    assert batch


def test_every_migration_can_be_undone_and_done_again_with_data(migrated: Database) -> None:
    add_batch(migrated, lines=3)
    with migrated.connect() as connection, connection.begin():
        command.downgrade(alembic_config(connection), "base")
    with migrated.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
    with migrated.connect() as connection, connection.begin():
        command.upgrade(alembic_config(connection), "head")
    add_batch(migrated, lines=3)
    require_current(migrated)


def test_the_default_tenant_is_there_from_the_start(database: Database) -> None:
    with database.reading() as db:
        assert db.get_one(Tenant, DEFAULT_TENANT).weight == 1


def test_processes_that_migrate_at_once_wait_for_each_other(empty_database_url: str) -> None:
    context = multiprocessing.get_context("fork")
    crew = [context.Process(target=migrate, args=(empty_database_url,)) for _ in range(4)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()

    assert [process.exitcode for process in crew] == [0] * 4
    database = Database(empty_database_url)
    require_current(database)
    with database.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    database.close()


def test_a_migration_that_is_done_is_left_alone(database_url: str, database: Database) -> None:
    add_batch(database, lines=1)
    migrate(database_url)
    require_current(database)


def test_a_database_that_is_too_new_is_refused_with_a_next_step(
    migrated: Database, empty_database_url: str
) -> None:
    with migrated.transaction() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    for refusing in (lambda: migrate(empty_database_url), lambda: require_current(migrated)):
        with pytest.raises(ConfigurationError) as refusal:
            refusing()
        assert refusal.value.code == "database_too_new"
        assert refusal.value.message.count(".") == 1
        assert refusal.value.hint


def test_a_database_without_the_schema_is_refused_with_a_next_step(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with pytest.raises(ConfigurationError) as refusal:
        require_current(database)
    assert refusal.value.code == "database_not_migrated"
    assert refusal.value.hint
    database.close()


def test_a_new_sqlite_file_may_lie_in_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/not/yet/there.db")
    assert (tmp_path / "not/yet/there.db").exists()


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite://", "nonsense", ""])
def test_a_database_that_we_cannot_use_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Database(url)
    assert refusal.value.hint


def test_sqlite_waits_for_the_disk_and_keeps_a_log(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


@pytest.mark.postgres
def test_postgres_ends_transactions_that_somebody_left_open(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.reading() as db:
        assert db.scalar(text("SHOW idle_in_transaction_session_timeout")) == "1min"
        options = db.scalar(text("SELECT reloptions FROM pg_class WHERE relname = 'jobs'"))
    database.close()
    assert set(options) == {"fillfactor=85", "autovacuum_vacuum_scale_factor=0.01"}
