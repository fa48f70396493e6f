"""`sluice resume`: let a paused batch go on."""

import click

from sluice.commands.options import connected, json_option, key_option, url_option
from sluice.commands.status import print_batches


@click.command("resume", short_help="Let a paused batch go on.")
@click.argument("batch_id", metavar="BATCH")
@url_option
@key_option
@json_option
def command(batch_id: str, url: str, key: str | None, as_json: bool) -> None:
    """Go on with BATCH, which was paused."""
    with connected(url, key) as client:
        print_batches([client.resume_batch(batch_id)], as_json)
