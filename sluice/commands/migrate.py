"""`sluice migrate`: bring a database up to date."""

import os
from pathlib import Path

import click

from sluice.commands.options import data_dir_option


@click.command("migrate", short_help="Bring the database up to date.")
@data_dir_option
def command(data_dir: Path) -> None:
    """Bring the database (DATABASE_URL, or the one in the data directory) up to date."""
    from sluice.launcher.database import migrated, settings_from
    from sluice.launcher.options import StackOptions

    options = StackOptions(data_dir=data_dir, private=False)
    with migrated(settings_from(options.environment(os.environ.get("REDIS_URL")))) as database:
        click.echo(f"The {database.dialect} database is up to date.")
