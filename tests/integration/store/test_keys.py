"""Keys: what they open, how long, and that somebody can always administer."""

import threading

import pytest
from alembic import command
from sqlalchemy import select

from service.contract.callers import Role
from service.errors import Conflict
from service.store import keys
from service.store.database import Database
from service.store.schema import alembic_config, migrate
from service.store.tables import Key


def test_a_key_opens_its_tenants_work_alone_unless_made_for_more(database: Database) -> None:
    with database.transaction() as db:
        user, _ = keys.create(db, "acme")
        admin, secret = keys.create(db, "acme", role=Role.ADMIN)
        known = keys.authenticate(db, secret)
    assert (user.role, admin.role) == (Role.USER, Role.ADMIN)
    assert known is not None
    assert known.role is Role.ADMIN


def test_a_key_that_has_expired_lets_nobody_in_and_does_not_open_the_door(database: Database) -> None:
    with database.transaction() as db:
        _, over = keys.create(db, "acme", expires_in_seconds=-1)
        assert not keys.any_valid(db)
        _, lasting = keys.create(db, "acme", expires_in_seconds=60)
    with database.reading() as db:
        assert keys.authenticate(db, over) is None
        assert keys.authenticate(db, lasting) is not None
        assert keys.any_exist(db)
        assert keys.any_valid(db)


@pytest.mark.parametrize("secret", ["", "foobar", "sk-sluice-", "sk-sluice-\0" + "A" * 42, "é" * 53])
def test_what_cannot_be_a_key_is_refused_without_asking(database: Database, secret: str) -> None:
    with database.reading() as db:
        assert keys.authenticate(db, secret) is None


def test_the_last_admin_key_is_kept_where_that_is_asked(database: Database) -> None:
    with database.transaction() as db:
        keys.create(db, "acme")
        keys.create(db, "acme", role=Role.ADMIN, expires_in_seconds=-1)
        first, _ = keys.create(db, "acme", role=Role.ADMIN)
        with pytest.raises(Conflict) as refusal:
            keys.revoke(db, first.id, keep_an_admin=True)
        assert refusal.value.code == "last_admin_key"
        second, _ = keys.create(db, "acme", role=Role.ADMIN)
        assert keys.revoke(db, first.id, keep_an_admin=True)
        assert keys.revoke(db, second.id)


def test_two_admins_who_revoke_each_other_at_once_do_not_both_succeed(database: Database) -> None:
    with database.transaction() as db:
        pair = [keys.create(db, "acme", role=Role.ADMIN)[0].id for _ in range(2)]
    start = threading.Barrier(2)
    refused: list[str] = []

    def revoke(key_id: str) -> None:
        start.wait()
        try:
            with database.transaction() as db:
                keys.revoke(db, key_id, keep_an_admin=True)
        except Conflict:
            refused.append(key_id)

    threads = [threading.Thread(target=revoke, args=(key_id,)) for key_id in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    with database.reading() as db:
        assert list(db.scalars(select(Key.id).where(Key.revoked_at.is_(None)))) == refused


def test_keys_are_listed_newest_first_page_by_page_of_one_tenant_or_all(database: Database) -> None:
    with database.transaction() as db:
        for number in range(5):
            keys.create(db, "acme" if number % 2 else "globex", f"key {number}")
    with database.reading() as db:
        listed: list[Key] = []
        while page := keys.page(db, after=listed[-1].id if listed else None, limit=2):
            listed.extend(page)
        assert sorted(str(key.name) for key in listed) == [f"key {number}" for number in range(5)]
        assert [key.created_at for key in listed] == sorted((key.created_at for key in listed), reverse=True)
        assert {key.tenant_id for key in keys.page(db, "acme")} == {"acme"}


def test_the_use_of_keys_is_marked_by_the_databases_clock(database: Database) -> None:
    with database.transaction() as db:
        used, idle = (keys.create(db, "acme")[0].id for _ in range(2))
        keys.mark_used(db, [used])
        marked, unmarked = keys.get(db, used), keys.get(db, idle)
    assert marked is not None
    assert marked.last_used_at is not None
    assert marked.last_used_at >= marked.created_at
    assert unmarked is not None
    assert unmarked.last_used_at is None


def test_keys_from_before_there_were_roles_open_what_they_opened(empty_database_url: str) -> None:
    migrate(empty_database_url)
    database = Database(empty_database_url)
    with database.transaction() as db:
        _, secret = keys.create(db, "acme", "laptop", role=Role.ADMIN)
    for move, revision in ((command.downgrade, "0002"), (command.upgrade, "head")):
        with database.connect() as connection, connection.begin():
            move(alembic_config(connection), revision)
    with database.reading() as db:
        known = keys.authenticate(db, secret)
    assert known is not None
    assert (known.tenant_id, known.name, known.role, known.expires_at) == ("acme", "laptop", Role.USER, None)
    database.close()
