"""`sluice serve`: the whole stack in the foreground."""

import time
from pathlib import Path
from typing import Any

import click

from sluice.commands.options import chosen_model, data_dir_option, several_models

TEND_SECONDS = 0.25


@click.command("serve", short_help="Start the whole stack here, until Ctrl-C.")
@click.option(
    "-p", "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs a key first.")
@data_dir_option
@click.option(
    "--allow-files",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="A folder whose files requests may name by path; may be repeated.",
)
@several_models
def command(port: int, host: str, data_dir: Path, allow_files: tuple[Path, ...], **model: Any) -> None:
    """Start the API, the workers and the broker, and stay until Ctrl-C."""
    from sluice.launcher.options import StackOptions
    from sluice.launcher.ready import wait_until_ready
    from sluice.launcher.stack import Stack

    options = StackOptions(
        data_dir=data_dir,
        host=host,
        port=port,
        allow_files=allow_files,
        private=False,
        model=chosen_model(**model),
    )
    with Stack(options) as stack:
        click.echo(f"Starting on {stack.url} (logs in {stack.data_dir.logs}) …")
        wait_until_ready(stack)
        click.echo(f"Ready. OpenAI clients: base_url={stack.url}/v1 · stop with Ctrl-C")
        try:
            while True:
                stack.tend()
                time.sleep(TEND_SECONDS)
        except KeyboardInterrupt:
            click.echo("\nFinishing what is running; Ctrl-C again stops at once …")
            raise
