"""One run from beginning to end, or from wherever it was stopped."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import NotFound, SluiceError
from sluice.client import Batch, Client
from sluice.launcher.options import StackOptions
from sluice.launcher.ready import wait_until_answering, wait_until_ready
from sluice.launcher.stack import Stack
from sluice.runs.follow import follow
from sluice.runs.plan import Plan, hub_revision
from sluice.runs.record import Record
from sluice.runs.views import View, view_for

# The launcher brings the web process back by itself; this is for a machine that is busy beyond measure.
PATIENCE_SECONDS = 120.0
GOODBYE_SECONDS = 1.0
# A run may be stopped for weeks before it goes on.
LONGEST_WINDOW = "30d"
COMPLETED = "completed"


@dataclass(frozen=True)
class Finished:
    """A batch that has ended, and its files on our side."""

    batch: Batch
    output: Path | None
    errors: Path | None


@dataclass(frozen=True)
class Where:
    """data_dir: the folder under which runs are kept. output, errors: where results are to be written."""

    data_dir: Path
    output: Path
    errors: Path
    allow_files: tuple[Path, ...] = ()

    def folder_of(self, plan: Plan) -> Path:
        """Each run has a stack of its own, so that no other run's lines, model or folders mix with it."""
        return self.data_dir / "runs" / plan.name


def run(plan: Plan, where: Where, *, again: bool = False) -> Finished:
    """Run a manifest, or what is left of it; a run that has ended before only hands out its files again."""
    record = _record_of(plan, where, again=again)
    options = StackOptions(
        data_dir=where.folder_of(plan),
        allow_files=(plan.base_dir, *where.allow_files),
        model=plan.model,
        with_workers=not record.has_ended,
        # Where `sluice serve` keeps them too.
        quant_cache=where.data_dir / "quantized",
    )
    with (
        view_for(plan.manifest.name, plan.num_lines) as view,
        _stack(options, view) as stack,
        Client(stack.url) as client,
    ):
        batch = _ended_batch(plan, record, stack, client, view)
        output, errors = _hand_out(client, batch, where)
    return Finished(batch, output, errors)


def _record_of(plan: Plan, where: Where, *, again: bool) -> Record:
    record = Record.load(where.folder_of(plan))
    seen = hub_revision(plan.model.model or "")
    has_moved = None not in (seen, record.revision) and seen != record.revision
    return record.anew() if again or has_moved else record


@contextlib.contextmanager
def _stack(options: StackOptions, view: View) -> Iterator[Stack]:
    with Stack(options) as stack:
        try:
            yield stack
        except KeyboardInterrupt:
            view.say("Stopping after what is running now; Ctrl-C again stops at once …")
            raise
        # All is written down: whoever takes longer to say goodbye loses nothing by being cut short.
        stack.stop(drain_seconds=GOODBYE_SECONDS)


def _ended_batch(plan: Plan, record: Record, stack: Stack, client: Client, view: View) -> Batch:
    if record.has_ended and record.batch_id:
        view.say("All lines were finished before.")
        wait_until_answering(stack)
        return client.batch(record.batch_id)
    view.say("Starting, and loading the model …")
    wait_until_ready(stack)
    record, batch = _submitted(plan, record, client, view)
    batch = follow(client, batch.id, view, tend=stack.tend, patience_seconds=PATIENCE_SECONDS)
    if batch.status == COMPLETED:
        record.updated(has_ended=True, revision=hub_revision(plan.model.model or ""))
    else:
        record.anew()  # it was refused, cancelled or too late as a whole: the same command tries again
    return batch


def _submitted(plan: Plan, record: Record, client: Client, view: View) -> tuple[Record, Batch]:
    """The run's batch: the one it has, or a new one. Killed between any two lines, we find it again by its key."""
    batch = _known_batch(record, client)
    if batch is None:
        record = _uploaded(plan, record, client)
        assert record.file_id is not None
        batch = client.create_batch(
            record.file_id,
            defaults=plan.defaults,
            base_dir=plan.base_dir,
            completion_window=LONGEST_WINDOW,
            idempotency_key=f"run-{plan.fingerprint}-{record.number}",
        )
        record = record.updated(batch_id=batch.id)
    if batch.done:
        view.say(f"Going on where it stopped: {batch.done} of {plan.num_lines} lines are done.")
    return record, batch


def _known_batch(record: Record, client: Client) -> Batch | None:
    with contextlib.suppress(NotFound):
        return client.batch(record.batch_id) if record.batch_id else None
    return None


def _uploaded(plan: Plan, record: Record, client: Client) -> Record:
    if record.file_id is not None:
        return record
    with plan.manifest.open("rb") as content:
        uploaded = client.upload(content, plan.manifest.name, "batch")
    return record.updated(file_id=uploaded["id"])


def _hand_out(client: Client, batch: Batch, where: Where) -> tuple[Path | None, Path | None]:
    output = _download(client, batch.output_file_id, where.output)
    errors = _download(client, batch.error_file_id, where.errors)
    return output, errors


def _download(client: Client, file_id: str | None, target: Path) -> Path | None:
    if file_id is None:
        # An older run may have left its file here; this one has nothing to say.
        target.unlink(missing_ok=True)
        return None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download(file_id, target)
    except OSError as error:
        raise SluiceError(
            f"{target} cannot be written ({(error.strerror or 'unknown reason').lower()}).",
            hint="Name another file with -o or --errors; the same command then only writes the files.",
        ) from None
    return target
