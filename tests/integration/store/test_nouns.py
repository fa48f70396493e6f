"""Keys, files, workers, idempotency, and the walls between tenants."""

import threading

import pytest
from scenes import MODEL, add_batch, add_chat, die, join
from sqlalchemy import select

from service.contract.lifecycle import JobState, WorkerRole
from service.errors import KeyReused
from service.store import batches, files, idempotency, jobs, keys, tenants, workers
from service.store.database import Database
from service.store.tables import Key


def test_a_key_lets_its_tenant_in_and_is_not_kept(database: Database) -> None:
    with database.transaction() as db:
        assert not keys.any_exist(db)
        row, secret = keys.create(db, "acme", "laptop")
        assert keys.any_exist(db)
        known = keys.authenticate(db, secret)
        assert known is not None
        assert (known.id, known.tenant_id, known.name) == (row.id, "acme", "laptop")
        stored = db.execute(select(Key.__table__)).one()
    assert secret not in str(stored)
    assert secret.startswith("sk-sluice-")


def test_a_wrong_or_revoked_key_lets_nobody_in(database: Database) -> None:
    with database.transaction() as db:
        row, secret = keys.create(db, "acme")
        _, other = keys.create(db, "acme")
        assert keys.authenticate(db, secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None
        assert keys.authenticate(db, secret[: keys.PREFIX_LENGTH]) is None
        assert keys.authenticate(db, "") is None
        assert keys.revoke(db, row.id)
        assert not keys.revoke(db, row.id)
        assert keys.authenticate(db, secret) is None
        assert keys.authenticate(db, other) is not None
        assert len(keys.page(db, "acme")) == 2


def test_revoking_the_last_key_does_not_open_the_door(database: Database) -> None:
    with database.transaction() as db:
        row, _ = keys.create(db, "acme")
        keys.revoke(db, row.id)
        assert keys.any_exist(db)


def test_another_tenants_things_look_like_nothing(database: Database) -> None:
    with database.transaction() as db:
        tenants.ensure(db, "acme")
        tenants.ensure(db, "rival")
        file = files.insert(db, "acme", filename="a.jsonl", purpose="batch", num_bytes=1, blob="a")
    batch, chat = add_batch(database, lines=1, tenant="acme"), add_chat(database, tenant="acme")
    with database.transaction() as db:
        assert files.get(db, "rival", file.id) is None
        assert files.delete(db, "rival", file.id) is None
        assert files.page(db, "rival") == []
        assert batches.get(db, "rival", batch) is None
        assert batches.page(db, "rival") == []
        assert not batches.request_cancel(db, "rival", batch)
        assert jobs.get(db, "rival", chat) is None
        assert not jobs.cancel(db, "rival", chat)
        assert jobs.page(db, "rival") == []
        assert jobs.page(db, "rival", batch_id=batch) == []

        assert files.get(db, "acme", file.id) is not None
        assert jobs.get(db, "acme", chat) is not None
        assert len(jobs.page(db, "acme", batch_id=batch)) == 1


def test_files_are_listed_page_by_page_in_both_orders(database: Database) -> None:
    with database.transaction() as db:
        made = [
            files.insert(db, "default", filename=f"{n}", purpose="batch", num_bytes=n, blob=f"{n}").id
            for n in range(5)
        ]
        files.insert(db, "default", filename="x", purpose="user_data", num_bytes=1, blob="x")
    with database.reading() as db:
        for newest in (True, False):
            listed: list[str] = []
            while page := files.page(
                db,
                "default",
                purpose="batch",
                after=listed[-1] if listed else None,
                limit=2,
                newest=newest,
            ):
                listed.extend(file.id for file in page)
            assert sorted(listed) == sorted(made)
            rows = [files.get(db, "default", file_id) for file_id in listed]
            ages = [file.created_at for file in rows if file]
            assert ages == sorted(ages, reverse=newest)


def test_a_deleted_file_tells_its_blob_once(database: Database) -> None:
    with database.transaction() as db:
        file = files.insert(db, "default", filename="a", purpose="batch", num_bytes=1, blob="blobs/a")
        assert files.delete(db, "default", file.id) == "blobs/a"
        assert files.delete(db, "default", file.id) is None
        assert files.get(db, "default", file.id) is None


def test_the_same_idempotency_key_makes_one_object_even_at_the_same_time(database: Database) -> None:
    made: list[str] = []
    start = threading.Barrier(4)

    def send(number: int) -> None:
        start.wait()
        with database.transaction() as db:
            made.append(
                idempotency.remember(
                    db, "default", route="batches", key="k", body_sha256="h", object_id=f"batch_{number}"
                )
            )

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1


def test_an_idempotency_key_belongs_to_one_request_tenant_and_route(database: Database) -> None:
    with database.transaction() as db:
        first = {"route": "batches", "key": "k", "body_sha256": "h"}
        assert idempotency.find(db, "default", **first) is None
        idempotency.remember(db, "default", **first, object_id="one")
        assert idempotency.find(db, "default", **first) == "one"
        assert idempotency.find(db, "rival", **first) is None
        assert idempotency.find(db, "default", route="jobs", key="k", body_sha256="h") is None
        with pytest.raises(KeyReused):
            idempotency.find(db, "default", route="batches", key="k", body_sha256="another")


def test_models_are_ready_while_a_live_worker_says_so(database: Database) -> None:
    with database.transaction() as db:
        loading = workers.register(db, WorkerRole.ENGINE, "here", ["big"], "cuda:0")
        assert workers.ready_models(db) == []
        workers.set_model_state(db, loading, "big", "ready", "r2")
        workers.register(db, WorkerRole.IO, "here", [], None)
    ready = join(database)
    with database.reading() as db:
        served = workers.ready_models(db)
    assert [(one.model, one.revision, one.device, one.worker_id) for one in served] == [
        ("big", "r2", "cuda:0", loading),
        (MODEL, "r1", "cpu", ready),
    ]
    die(database, loading)
    with database.transaction() as db:
        workers.set_model_state(db, ready, MODEL, "failed")
        assert workers.ready_models(db) == []


def test_single_jobs_are_listed_oldest_first_and_by_state(database: Database) -> None:
    made = [add_chat(database) for _ in range(5)]
    add_batch(database, lines=2)
    with database.transaction() as db:
        jobs.cancel(db, "default", made[1])
        first = jobs.page(db, "default", limit=3)
        rest = jobs.page(db, "default", after=first[-1].id)
        cancelled = jobs.page(db, "default", states={JobState.CANCELLED})
    assert [view.id for view in (*first, *rest)] == made
    assert [view.id for view in cancelled] == [made[1]]
