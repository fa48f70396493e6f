"""`sluice worker`: one Celery worker, for machines that are run by hand or by a container."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from sluice.commands.options import chosen_model, several_models


@click.command("worker", short_help="Become a worker of a service elsewhere.")
@click.option("--role", type=click.Choice(["engine", "io"]), default="engine", show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the database and blobs are, if DATABASE_URL and BLOB_URL do not say.",
)
@several_models
def command(role: str, data_dir: Path | None, **model: Any) -> None:
    """Become a worker: `engine` owns a device and a model, `io` reads manifests and writes results.

    DATABASE_URL, REDIS_URL and BLOB_URL say which service it works for.
    """
    from service.contract.tickets import IO_QUEUE, engine_queues
    from sluice.launcher import programs
    from sluice.launcher.database import settings_from
    from sluice.launcher.options import StackOptions

    options = StackOptions(
        data_dir=data_dir or Path(os.environ.get("SLUICE_DATA_DIR", ".sluice")),
        private=False,
        model=chosen_model(**model),
    )
    environment = {**options.environment(os.environ.get("REDIS_URL")), "SLUICE_ROLE": role}
    settings = settings_from(environment)
    queue = IO_QUEUE if role == "io" else engine_queues(settings.model_names)
    sys.stdout.flush()
    os.execve(sys.executable, programs.worker_argv(role, queue), environment)
