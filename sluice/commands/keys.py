"""`sluice keys`: API keys, written straight to the database."""

import json
from pathlib import Path

import click

from sluice.commands.options import data_dir_option, json_option


@click.group("keys")
def command() -> None:
    """Make API keys. Once one exists, every request needs a valid one."""


@command.command("create")
@click.option("--tenant", default="default", show_default=True, help="Whose jobs and files the key sees.")
@data_dir_option
@json_option
def create(tenant: str, data_dir: Path, as_json: bool) -> None:
    """Make a key and print it; it is shown only now."""
    from service.store import keys
    from sluice.launcher.database import migrated, settings_from
    from sluice.launcher.options import StackOptions

    settings = settings_from(StackOptions(data_dir=data_dir, private=False).environment(None))
    with migrated(settings) as database, database.transaction() as session:
        row, secret = keys.create(session, tenant)
        shown = {"id": row.id, "tenant": tenant, "key": secret}
    click.echo(json.dumps(shown) if as_json else secret)
