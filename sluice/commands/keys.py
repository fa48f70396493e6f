"""`sluice keys`: API keys, written straight to the database."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.errors import NotFound
from sluice.commands.options import data_dir_option, json_option

if TYPE_CHECKING:
    from service.store.database import Database
    from service.store.tables import Key

SECONDS = {"m": 60, "h": 3600, "d": 86400}
SHOWN_KEYS = 1000


class Duration(click.ParamType[int]):
    """`30d`, `12h` or `5m`, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds."""
        match = re.fullmatch(r"([1-9]\d{0,4})([mhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a time such as 30d, 12h or 5m.", param, ctx)
        return int(match[1]) * SECONDS[match[2]]


@click.group("keys")
def command() -> None:
    """Make, list and revoke API keys. Once one exists, every request needs a valid one."""


@command.command("create")
@click.option("--tenant", default="default", show_default=True, help="Whose jobs and files the key sees.")
@click.option("--name", help="What to remember the key by.")
@click.option("--admin", is_flag=True, help="A key that may make and revoke keys over HTTP too.")
@click.option(
    "--expires", type=Duration(), metavar="TIME", help="How long it works, such as 30d [default: ever]."
)
@data_dir_option
@json_option
def create(
    tenant: str, name: str | None, admin: bool, expires: int | None, data_dir: Path, as_json: bool
) -> None:
    """Make a key and print it; it is shown only now."""
    from service.contract.callers import Role
    from service.contract.ids import is_tenant_id
    from service.store import keys

    if not is_tenant_id(tenant):
        raise click.UsageError(
            f"{tenant!r} cannot name a tenant: use up to 64 letters, digits, dots, - and _."
        )
    role = Role.ADMIN if admin else Role.USER
    with _database(data_dir) as database, database.transaction() as session:
        row, secret = keys.create(session, tenant, name, role=role, expires_in_seconds=expires)
        shown = _json(row) | {"tenant": tenant, "key": secret}
    click.echo(json.dumps(shown) if as_json else secret)


@command.command("list")
@click.option("--tenant", help="Only this tenant's.")
@data_dir_option
@json_option
def list_(tenant: str | None, data_dir: Path, as_json: bool) -> None:
    """Show the keys, newest first, without their secrets."""
    from service.store import keys

    with _database(data_dir) as database, database.reading() as session:
        rows = keys.page(session, tenant, limit=SHOWN_KEYS)
    if as_json:
        click.echo(json.dumps([_json(row) for row in rows]))
        return
    for row in rows:
        click.echo(_line(row))


@command.command("revoke")
@click.argument("key_id", metavar="ID")
@data_dir_option
def revoke(key_id: str, data_dir: Path) -> None:
    """Make a key worthless: a running server refuses it within a second."""
    from service.store import keys

    with _database(data_dir) as database, database.transaction() as session:
        if keys.get(session, key_id) is None:
            raise NotFound(f"There is no key {key_id}.", hint="See: sluice keys list")
        was_valid = keys.revoke(session, key_id)
    click.echo(f"{key_id} is revoked." if was_valid else f"{key_id} was revoked before.")


@contextmanager
def _database(data_dir: Path) -> "Iterator[Database]":
    from sluice.launcher.database import migrated, settings_from
    from sluice.launcher.options import StackOptions

    settings = settings_from(StackOptions(data_dir=data_dir, private=False).environment(None))
    with migrated(settings) as database:
        yield database


def _json(row: "Key") -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant_id": row.tenant_id,
        "name": row.name,
        "role": row.role.value,
        "prefix": row.prefix,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
        "revoked_at": row.revoked_at,
    }


def _line(row: "Key") -> str:
    return (
        f"{row.id}  {row.tenant_id:<12}  {row.role.value:<5}  {_standing(row):<20}  {row.name or ''}".rstrip()
    )


def _standing(row: "Key") -> str:
    if row.revoked_at is not None:
        return f"revoked {_day(row.revoked_at)}"
    if row.expires_at is not None and row.expires_at <= time.time():
        return f"expired {_day(row.expires_at)}"
    return f"last used {_day(row.last_used_at)}" if row.last_used_at is not None else "never used"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
