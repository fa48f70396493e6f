"""`sluice cancel`: stop a batch for good."""

import click

from sluice.commands.options import connected, json_option, key_option, url_option
from sluice.commands.status import print_batches


@click.command("cancel", short_help="Stop a batch for good.")
@click.argument("batch_id", metavar="BATCH")
@url_option
@key_option
@json_option
def command(batch_id: str, url: str, key: str | None, as_json: bool) -> None:
    """Stop BATCH; lines that were answered keep their results."""
    with connected(url, key) as client:
        print_batches([client.cancel_batch(batch_id)], as_json)
