"""`sluice results`: the files of a batch that has ended."""

from pathlib import Path

import click

from service.errors import Conflict
from sluice.commands.options import connected, key_option, url_option


@click.command("results", short_help="Download what a batch has written.")
@click.argument("batch_id", metavar="BATCH")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Results as JSONL [default: BATCH.results.jsonl]."
)
@click.option(
    "--errors", type=click.Path(path_type=Path), help="Failed lines as JSONL [default: BATCH.errors.jsonl]."
)
@url_option
@key_option
def command(batch_id: str, output: Path | None, errors: Path | None, url: str, key: str | None) -> int:
    """Download what BATCH has written."""
    with connected(url, key) as client:
        batch = client.batch(batch_id)
        if not batch.has_ended:
            raise Conflict(
                f"{batch_id} has not ended yet: {batch.done} of {batch.total} lines.",
                hint=f"Wait for it with: sluice status {batch_id} --watch",
            )
        wanted = (
            (batch.output_file_id, output or Path(f"{batch_id}.results.jsonl")),
            (batch.error_file_id, errors or Path(f"{batch_id}.errors.jsonl")),
        )
        for file_id, target in wanted:
            if file_id is not None:
                client.download(file_id, target)
                click.echo(target)
    return 0 if batch.has_succeeded else 1
