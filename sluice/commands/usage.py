"""`sluice usage`: who spent how many tokens."""

import datetime
import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from sluice.commands.options import connected, json_option, key_option, url_option

COLUMNS = 80
GAP = 2
DAY_WIDTH = len("2026-01-31")
DAY = click.DateTime(["%Y-%m-%d"])
GROUPS = {"key": "key_id", "model": "model", "day": "day"}
COUNTS = {
    "requests": ("requests",),
    "prompt": ("prompt_tokens",),
    "of it media": ("image_tokens", "video_tokens", "audio_tokens"),
    "answer": ("completion_tokens",),
}


@click.command("usage", short_help="Show who spent how many tokens.")
@click.option(
    "--start", type=DAY, metavar="DAY", help="First day, such as 2026-01-31 [default: 29 days ago]."
)
@click.option("--end", type=DAY, metavar="DAY", help="Last day (UTC) [default: today].")
@click.option(
    "--by",
    type=click.Choice(list(GROUPS)),
    multiple=True,
    default=("key", "day"),
    show_default=True,
    help="May be repeated.",
)
@click.option("--tenant", help="Another tenant's usage, with an admin key.")
@url_option
@key_option
@json_option
def command(
    start: datetime.datetime | None,
    end: datetime.datetime | None,
    by: tuple[str, ...],
    tenant: str | None,
    url: str,
    key: str | None,
    as_json: bool,
) -> None:
    """Show answered requests and their tokens, by key, model and day."""
    days = {"start": start, "end": end}
    with connected(url, key) as client:
        report = client.usage(
            **{name: day.date().isoformat() for name, day in days.items() if day is not None},
            group_by=list(by),
            tenant=tenant,
        )
    if as_json:
        click.echo(json.dumps(report))
    else:
        Console(width=COLUMNS, highlight=False, soft_wrap=False).print(table(report))


def table(report: dict[str, Any]) -> Table:
    """A report in 80 columns; media are the tokens of images, videos and sounds."""
    told = Table(box=None, pad_edge=False, show_footer=True)
    total = _counts(report["total"])
    # The total is the longest of its column; names share what is left, and a day is never cut.
    widths = [max(len(head), len(sum_)) for head, sum_ in zip(COUNTS, total, strict=True)]
    names = [group for group in report["group_by"] if group != "day"]
    left = COLUMNS - sum(widths) - GAP * (len(widths) + len(report["group_by"]) - 1)
    left -= DAY_WIDTH if "day" in report["group_by"] else 0
    for number, group in enumerate(report["group_by"]):
        width = DAY_WIDTH if group == "day" else max(1, left // len(names))
        told.add_column(
            group, footer="" if number else "total", max_width=width, no_wrap=True, overflow="ellipsis"
        )
    for head, footer, width in zip(COUNTS, total, widths, strict=True):
        told.add_column(head, footer=footer, justify="right", width=width)
    for row in report["data"]:
        told.add_row(*(str(row[GROUPS[group]] or "-") for group in report["group_by"]), *_counts(row))
    return told


def _counts(row: dict[str, Any]) -> list[str]:
    return [f"{sum(row[name] for name in names):,}" for names in COUNTS.values()]
