"""What a person sees while a batch runs: a moving bar in a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

import click

from sluice.client import Batch
from sluice.runs.pace import Pace, Speed, clock_face

LINE_SECONDS = 5.0


class View(Protocol):
    """Where progress is shown."""

    def __enter__(self) -> Self:
        """Begin showing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""

    def say(self, sentence: str) -> None:
        """Tell what is going on while there is no progress."""

    def show(self, batch: Batch, caption: str | None) -> None:
        """Show how far the batch is. caption: the newest answer, or None for no news of it."""


def view_for(title: str, num_lines: int | None) -> View:
    """The bar on a terminal, lines elsewhere. Both write to stderr: stdout is for results."""
    if sys.stderr.isatty():
        from sluice.runs.bar import Bar

        return Bar(title, num_lines)
    return Lines(title, num_lines)


class Lines:
    """A line now and then, for logs and pipes."""

    def __init__(self, title: str, num_lines: int | None) -> None:
        self._title, self._num_lines = title, num_lines
        self._pace = Pace()
        self._said_at = 0.0
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def say(self, sentence: str) -> None:
        """Say a new sentence once."""
        if sentence != self._said:
            self._said = sentence
            click.echo(sentence, err=True)

    def show(self, batch: Batch, caption: str | None) -> None:
        """Say how far the batch is, at most every five seconds and at the end."""
        total = self._num_lines or batch.total
        speed = self._pace.see(batch, total)
        now = time.monotonic()
        if now - self._said_at >= LINE_SECONDS or batch.has_ended:
            self._said_at = now
            self.say(f"{self._title}: {counts(batch, total)}{rates(speed)}")


def counts(batch: Batch, total: int) -> str:
    """`12/60 done, 1 failed`."""
    text = f"{batch.done}/{total} done"
    text += f", {batch.failed} failed" if batch.failed else ""
    return text + (f", {batch.skipped} not run" if batch.skipped else "")


def rates(speed: Speed) -> str:
    """`, 3.2 jobs/s, 64 tok/s, 0:15 left`, as far as it is known."""
    if speed.seconds_left is None:
        return ""
    left = f", {clock_face(speed.seconds_left)} left" if speed.seconds_left >= 1 else ""
    return f", {speed.jobs_per_second:.1f} jobs/s, {speed.tokens_per_second:.0f} tok/s{left}"
