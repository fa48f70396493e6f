"""Quotas: what a tenant's row says, and what is counted against it."""

import datetime

from scenes import MODEL, add_batch, add_chat, claim, finish, join
from sqlalchemy import insert, select

from service.contract.jobs import Succeeded
from service.contract.jobs import Usage as Tokens
from service.store import files, keys, quotas, tenants, usage
from service.store.database import Database, database_now
from service.store.quotas import Quotas
from service.store.tables import Usage


def test_a_tenant_says_nothing_until_it_is_given_quotas(database: Database) -> None:
    with database.transaction() as db:
        assert quotas.of(db, "nobody") == quotas.of(db, "default") == Quotas()
        tenants.put(db, "acme", {"requests_per_minute": 60, "queued_jobs": tenants.UNLIMITED})
        tenants.put(db, "acme", {"weight": 2.5, "tokens_per_day": 1000})
        tenants.put(db, "acme", {"requests_per_minute": None})
        tenants.put(db, "acme", {})
        acme = tenants.get(db, "acme")
        assert quotas.of(db, "acme") == Quotas(None, 1000, -1, None)
        assert acme is not None
        assert acme.weight == 2.5
        assert [tenant.id for tenant in tenants.page(db)] == ["acme", "default"]
        assert [tenant.id for tenant in tenants.page(db, after="acme", limit=1)] == ["default"]


def test_waiting_jobs_are_counted_by_tenant_and_no_further_than_asked(database: Database) -> None:
    with database.transaction() as db:
        tenants.ensure(db, "acme")
        tenants.ensure(db, "globex")
    add_batch(database, lines=7, tenant="acme")
    add_batch(database, lines=2, tenant="globex")
    add_chat(database, tenant="acme")
    with database.reading() as db:
        assert quotas.jobs_waiting(db, "acme", at_most=100) == 7
        assert quotas.jobs_waiting(db, "acme", at_most=5) == 5
        assert quotas.jobs_waiting(db, "nobody", at_most=5) == 0
    claim(database, join(database), 3)
    with database.reading() as db:
        waiting = [quotas.jobs_waiting(db, tenant, at_most=100) for tenant in ("acme", "globex")]
    assert sum(waiting) == 7


def test_todays_tokens_are_those_of_answers_of_both_classes(database: Database) -> None:
    add_batch(database, lines=2)
    add_chat(database)
    worker = join(database)
    finish(database, [Succeeded(job, {}, Tokens(10, 4)) for job in claim(database, worker)], worker)
    with database.transaction() as db:
        now = db.scalar(select(database_now()))
        assert now is not None
        yesterday = datetime.datetime.fromtimestamp(now, datetime.UTC).date() - datetime.timedelta(days=1)
        counts = dict.fromkeys(usage.COUNTED, 1000)
        db.execute(
            insert(Usage).values(
                tenant_id="default", key_id="", model=MODEL, day=yesterday, shard=0, **counts
            )
        )
        assert quotas.tokens_today(db, "default") == 3 * 14
        assert quotas.tokens_today(db, "acme") == 0


def test_usage_is_summed_by_what_is_asked(database: Database) -> None:
    day = datetime.date(2026, 3, 1)
    with database.transaction() as db:
        for key in ("key_a", "key_b", ""):
            for model in ("large", "small"):
                for shard in (0, 1):
                    counts = dict.fromkeys(usage.COUNTED, 10)
                    db.execute(
                        insert(Usage).values(
                            tenant_id="acme", key_id=key, model=model, day=day, shard=shard, **counts
                        )
                    )
    with database.reading() as db:

        def by(*groups: str) -> list[usage.Spent]:
            return usage.of(db, "acme", since=day, until=day, group_by=groups)

        assert [(spent.key_id, spent.model, spent.requests) for spent in by("key_id")] == [
            (None, None, 40),
            ("key_a", None, 40),
            ("key_b", None, 40),
        ]
        assert [(spent.model, spent.prompt_tokens) for spent in by("model")] == [("large", 60), ("small", 60)]
        assert [(spent.day, spent.audio_tokens) for spent in by()] == [(None, 120)]
        assert usage.of(db, "globex", since=day, until=day, group_by=()) == []


def test_stored_bytes_are_the_files_of_the_tenant(database: Database) -> None:
    with database.transaction() as db:
        keys.create(db, "acme")
        for size in (100, 20):
            files.insert(db, "acme", filename="a", purpose="batch", num_bytes=size, blob="a")
        files.insert(db, "default", filename="b", purpose="batch", num_bytes=5, blob="b")
        assert quotas.bytes_stored(db, "acme") == 120
        assert quotas.bytes_stored(db, "nobody") == 0
