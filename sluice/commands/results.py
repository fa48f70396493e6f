"""`sluice results`: what a batch has brought, at its end or while it runs."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.errors import Conflict
from sluice.commands.options import connected, key_option, url_option

if TYPE_CHECKING:
    from sluice.client import Client

STANDARD_OUTPUT = Path("-")


@click.command("results", short_help="Download what a batch has written.")
@click.argument("batch_id", metavar="BATCH")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where results go, - for standard output [default: BATCH.results.FORMAT].",
)
@click.option(
    "--errors", type=click.Path(path_type=Path), help="Failed lines as JSONL [default: BATCH.errors.jsonl]."
)
@click.option(
    "--format",
    "wanted",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="Replies and failures in one file, of all that has ended by now.",
)
@click.option(
    "--follow", is_flag=True, help="Tell every line as it ends, until the batch has; to -o or here."
)
@url_option
@key_option
def command(
    batch_id: str,
    output: Path | None,
    errors: Path | None,
    wanted: str | None,
    follow: bool,
    url: str,
    key: str | None,
) -> int:
    """Download what BATCH has written: at its end in two files, with --format or --follow in one and at any time."""
    if follow and wanted == "parquet":
        raise click.UsageError("Parquet cannot be followed. Take jsonl or csv, or leave --follow out.")
    if errors is not None and (follow or wanted):
        raise click.UsageError("With --format or --follow, failed lines stand among the others: no --errors.")
    with connected(url, key) as client:
        if follow:
            return _follow(client, batch_id, wanted or "jsonl", output or STANDARD_OUTPUT)
        if wanted is not None:
            return _read(client, batch_id, wanted, output or Path(f"{batch_id}.results.{wanted}"))
        return _download(client, batch_id, output, errors)


def _follow(client: "Client", batch_id: str, wanted: str, target: Path) -> int:
    from sluice.following import follow_results

    lines = follow_results(client, batch_id, wanted)
    if target == STANDARD_OUTPUT:
        _print(lines)
    else:
        with target.open("wb") as file:
            for line in lines:
                file.write(line)
                file.flush()
        click.echo(target)
    return 0 if client.batch(batch_id).has_succeeded else 1


def _read(client: "Client", batch_id: str, wanted: str, target: Path) -> int:
    from sluice.following import read_results

    pieces = read_results(client, batch_id, wanted)
    if target == STANDARD_OUTPUT:
        _print(pieces)
        return 0
    scratch = target.with_name(f".{target.name}.part")
    with scratch.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(target)
    click.echo(target)
    return 0


def _print(pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _download(client: "Client", batch_id: str, output: Path | None, errors: Path | None) -> int:
    batch = client.batch(batch_id)
    if not batch.has_ended:
        raise Conflict(
            f"{batch_id} has not ended yet: {batch.done} of {batch.total} lines.",
            hint=f"Wait for it with: sluice status {batch_id} --watch, or take what there is with --format jsonl.",
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
