"""`sluice retry`: try again what a batch did not answer."""

import click

from sluice.commands.options import connected, json_option, key_option, url_option
from sluice.commands.status import print_batches, watch_batch


@click.command("retry", short_help="Try again what a batch did not answer.")
@click.argument("batch_id", metavar="BATCH")
@click.option(
    "--only-retryable", is_flag=True, help="Leave out lines whose error says that a retry cannot help."
)
@click.option("--watch", is_flag=True, help="Stay and show how far it is.")
@url_option
@key_option
@json_option
def command(
    batch_id: str, only_retryable: bool, watch: bool, url: str, key: str | None, as_json: bool
) -> int:
    """Make a new batch of the lines of BATCH that failed, expired or were cancelled."""
    with connected(url, key) as client:
        child = client.retry_batch(batch_id, only_retryable=only_retryable)
        print_batches([child], as_json)
        return watch_batch(client, child.id) if watch else 0
