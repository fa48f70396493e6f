"""`sluice status`: how far batches are."""

import json
from typing import TYPE_CHECKING

import click

from sluice.commands.options import connected, json_option, key_option, url_option

if TYPE_CHECKING:
    from sluice.client import Batch, Client

PATIENCE_SECONDS = 30.0


@click.command("status", short_help="Show how far batches are.")
@click.argument("batch_id", metavar="BATCH", required=False)
@click.option("--watch", is_flag=True, help="Stay until the batch has ended.")
@url_option
@key_option
@json_option
def command(batch_id: str | None, watch: bool, url: str, key: str | None, as_json: bool) -> int:
    """Show one batch, or the newest ones."""
    with connected(url, key) as client:
        if batch_id is None:
            if watch:
                raise click.UsageError("--watch needs the id of a batch.")
            print_batches(client.batches(), as_json)
            return 0
        if watch:
            return watch_batch(client, batch_id)
        print_batches([client.batch(batch_id)], as_json)
        return 0


def watch_batch(client: "Client", batch_id: str) -> int:
    """Show a batch until it has ended; the exit code says whether all its lines succeeded."""
    from sluice.runs.follow import follow
    from sluice.runs.views import view_for

    with view_for(batch_id, None) as view:
        batch = follow(client, batch_id, view, tend=lambda: None, patience_seconds=PATIENCE_SECONDS)
    click.echo(f"Results: sluice results {batch_id}", err=True)
    return 0 if batch.has_succeeded else 1


def print_batches(batches: "list[Batch]", as_json: bool) -> None:
    """A line for each batch, or all of them as JSON."""
    if as_json:
        click.echo(json.dumps([batch.raw for batch in batches]))
        return
    for batch in batches:
        counts = f"{batch.completed}/{batch.total} done"
        counts += f", {batch.failed} failed" if batch.failed else ""
        status = "paused" if batch.is_paused else batch.status
        click.echo(f"{batch.id}  {status:<11}  {counts}")
