"""Transactions, and what a caller hears when the database cannot go on."""

import multiprocessing
import statistics
import threading
import time

import psycopg
import pytest
from scenes import add_batch, add_chat, states
from sqlalchemy import select, text

from service.contract.lifecycle import JobState
from service.errors import StorageFull, Unavailable
from service.store import jobs, tenants
from service.store.database import Database, database_now
from service.store.jobs import NewJob
from service.store.tables import Tenant


def test_a_transaction_commits_on_leaving_and_rolls_back_on_an_exception(database: Database) -> None:
    with database.transaction() as db:
        tenants.ensure(db, "kept")
    with pytest.raises(KeyError):
        _make_tenant_and_stumble(database)
    with database.reading() as db:
        assert set(db.scalars(select(Tenant.id))) == {"default", "kept"}


def test_what_was_read_stays_readable_after_its_session(database: Database) -> None:
    with database.reading() as db:
        tenant = db.get_one(Tenant, "default")
    assert tenant.weight == 1


def test_writers_in_many_threads_take_turns_without_errors(database: Database) -> None:
    def write() -> None:
        for _ in range(10):
            add_chat(database)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(database) == {JobState.QUEUED: 40}


def test_a_writer_that_waits_in_vain_is_told_that_the_database_is_busy(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.database.BUSY_SECONDS", 0.1)
    database, other = Database(sqlite_url), Database(sqlite_url)
    with other.transaction() as writing:
        tenants.ensure(writing, "holds the lock")
        with pytest.raises(Unavailable) as refused:
            add_chat(database)
    assert refused.value.code == "database_busy"
    add_chat(database)
    assert states(database) == {JobState.QUEUED: 1}
    for each in (database, other):
        each.close()


def test_a_writer_comes_in_soon_after_the_lock_is_free(sqlite_url: str) -> None:
    """SQLite's own way to wait would look again after up to 25 ms here."""
    database, other = Database(sqlite_url), Database(sqlite_url)
    late = []
    for _ in range(11):
        with other.transaction() as writing:
            tenants.ensure(writing, "holds the lock")
            waiting = threading.Timer(0.0, lambda: (add_chat(database), late.append(time.monotonic())))
            waiting.start()
            time.sleep(0.045)
        free_at = time.monotonic()
        waiting.join()
        late[-1] -= free_at
    assert statistics.median(late) < 0.01
    for each in (database, other):
        each.close()


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.transaction() as writing:
        jobs.insert_chat(writing, NewJob("default", "tiny", b"{}"))
        assert states(database) == {}


def test_the_clock_is_the_databases_and_has_fractions(database: Database) -> None:
    with database.reading() as db:
        readings = {db.scalar(select(database_now())) for _ in range(20)}
    assert all(isinstance(reading, float) for reading in readings)
    assert any(reading % 1 for reading in readings if reading)


def test_a_process_may_fork_with_the_database_open(database: Database) -> None:
    database.ping()
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=add_chat, args=(database,)) for _ in range(3)]
    for child in children:
        child.start()
    add_chat(database)
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert states(database) == {JobState.QUEUED: 4}


def test_a_full_disk_is_told_and_nothing_is_lost(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    add_batch(database, lines=5)
    with database.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with database.reading() as db:
        db.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
    with pytest.raises(StorageFull):
        _add_large_chat(database)
    assert states(database) == {JobState.QUEUED: 5}
    with database.reading() as db:
        db.execute(text("PRAGMA max_page_count = 1000000"))
    add_chat(database)
    database.close()


@pytest.mark.postgres
def test_a_cut_connection_is_told_and_the_next_one_works(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(Unavailable) as told:
        _lose_connection(database, postgres_url)
    assert told.value.code == "database_unavailable"
    database.ping()
    database.close()


@pytest.mark.postgres
def test_a_database_that_is_away_is_told() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Unavailable):
        database.ping()
    database.close()


def _make_tenant_and_stumble(database: Database) -> None:
    with database.transaction() as db:
        tenants.ensure(db, "lost")
        raise KeyError


def _add_large_chat(database: Database) -> None:
    with database.transaction() as db:
        jobs.insert_chat(db, NewJob("default", "tiny", b"x" * 200_000))


def _lose_connection(database: Database, url: str) -> None:
    with database.transaction() as db:
        me = db.scalar(text("SELECT pg_backend_pid()"))
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [me])
        db.execute(text("SELECT 1"))
