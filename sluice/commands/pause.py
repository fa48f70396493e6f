"""`sluice pause`: let a batch rest."""

import click

from sluice.commands.options import connected, json_option, key_option, url_option
from sluice.commands.status import print_batches


@click.command("pause", short_help="Let a batch rest.")
@click.argument("batch_id", metavar="BATCH")
@url_option
@key_option
@json_option
def command(batch_id: str, url: str, key: str | None, as_json: bool) -> None:
    """Begin no more lines of BATCH until it is resumed; those that run are finished, and its time runs on."""
    with connected(url, key) as client:
        print_batches([client.pause_batch(batch_id)], as_json)
