"""The moving bar."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sluice.client import Batch
from sluice.runs.pace import Pace, Speed, clock_face

NARROWEST_BAR = 10
LONGEST_TITLE = 30


class Bar:
    """Title, bar and counts on one line; speed, time left and the newest answer on the line below."""

    def __init__(self, title: str, num_lines: int | None, console: Console | None = None) -> None:
        self._title, self._num_lines = title, num_lines
        self._pace = Pace()
        self._caption = ""
        self._live = Live(console=console or Console(stderr=True), refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, sentence: str) -> None:
        """Turn a spinner beside a sentence, which leaves no trace if it is the last thing shown."""
        self._live.transient = True
        self._live.update(Spinner("dots", Text(f" {sentence}")))

    def show(self, batch: Batch, caption: str | None) -> None:
        """Move the bar."""
        self._live.transient = False
        self._caption = caption or self._caption
        total = self._num_lines or batch.total
        self._live.update(self._drawn(batch, total, self._pace.see(batch, total)), refresh=batch.has_ended)

    def _drawn(self, batch: Batch, total: int, speed: Speed) -> RenderableType:
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1, min_width=NARROWEST_BAR)
        row.add_column(no_wrap=True)
        title = Text(self._title, style="bold")
        title.truncate(LONGEST_TITLE, overflow="ellipsis")
        row.add_row(title, ProgressBar(total=max(total, 1), completed=batch.done), _counts(batch, total))
        below = _speed(speed, batch.has_ended)
        if self._caption and not batch.has_ended:
            below.append(self._caption, style="dim")
        return Group(row, below) if below else row


def _counts(batch: Batch, total: int) -> Text:
    text = Text(f"{batch.done}/{total}")
    if unwell := batch.failed + batch.skipped:
        text.append(f" · {unwell} failed", style="red")
    return text


def _speed(speed: Speed, has_ended: bool) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    if speed.seconds_left is not None:
        text.append(f"{speed.jobs_per_second:.1f} jobs/s · {speed.tokens_per_second:.0f} tok/s")
        if not has_ended:
            text.append(f" · {clock_face(speed.seconds_left)} left · ", style="cyan")
    return text
