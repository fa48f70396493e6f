"""`sluice submit`: a manifest to a server elsewhere."""

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from sluice.commands.options import (
    connected,
    json_option,
    key_option,
    response_format,
    schema_option,
    url_option,
)

# What a dry run has uploaded can be submitted for a day.
DRY_RUN_SECONDS = 24 * 3600


@click.command("submit", short_help="Send a manifest and its media to a server.")
@click.argument("manifest", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-m", "--model", help="The model for lines that do not say.")
@click.option("--prompt", help="What to ask about lines that do not say.")
@click.option("--system", help="What the model should be, for lines that do not say.")
@click.option("--max-tokens", type=click.IntRange(1), help="The longest answer, for lines that do not say.")
@schema_option
@click.option("--dry-run", is_flag=True, help="Tell what it would come to, and run nothing.")
@click.option("--dedupe", is_flag=True, help="Compute equal lines once.")
@click.option("--watch", is_flag=True, help="Stay and show how far it is.")
@url_option
@key_option
@json_option
def command(
    manifest: Path,
    json_schema: Path | None,
    dry_run: bool,
    dedupe: bool,
    watch: bool,
    url: str,
    key: str | None,
    as_json: bool,
    **defaults: str | int | None,
) -> int:
    """Upload MANIFEST with the files that it names, each once, and start a batch.

    With --dry-run its lines are counted and some are measured; the exit code says whether none of them would fail.
    """
    from sluice.manifests import rewrite
    from sluice.media_files import PassingUploads, Uploader

    wanted = {**defaults, "response_format": response_format(json_schema)}
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    with connected(url, key) as client:
        uploads = PassingUploads(client, DRY_RUN_SECONDS) if dry_run else client
        uploader = Uploader(uploads)
        with manifest.open("rb") as lines, tempfile.TemporaryFile() as fit_to_travel:
            fit_to_travel.writelines(rewrite(lines, manifest.resolve().parent, uploader.id_of))
            fit_to_travel.seek(0)
            uploaded = uploads.upload(fit_to_travel, manifest.name, "batch")
        if dry_run:
            return _tell(client.preflight(uploaded["id"], defaults=given), as_json=as_json)
        batch = client.create_batch(uploaded["id"], defaults=given, dedupe=dedupe)
        click.echo(json.dumps(batch.raw) if as_json else f"{batch.id} ({len(uploader)} files uploaded)")
        if not watch:
            return 0
        from sluice.commands.status import watch_batch

        return watch_batch(client, batch.id)


def _tell(told: dict[str, Any], *, as_json: bool) -> int:
    from sluice.runs.estimate import is_clean, print_estimate

    if as_json:
        click.echo(json.dumps(told))
    else:
        print_estimate(told)
    return 0 if is_clean(told) else 1
