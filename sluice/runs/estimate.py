"""What a manifest would come to, as a table of at most 80 columns."""

import textwrap
from collections.abc import Iterator

import click

from sluice.client import Json
from sluice.runs.pace import clock_face
from sluice.terminal import one_line

WIDTH = 80
NAME_WIDTH = 16
FAILURES_SHOWN = 10


def is_clean(told: Json) -> bool:
    """Whether no line that was looked at would fail."""
    return told["status"] == "completed" and not told["lines"]["invalid"] and not told["sample"]["failed"]


def print_estimate(told: Json) -> None:
    """The counts, the tokens, the time, and what would fail."""
    for error in (told["errors"] or {"data": ()})["data"]:
        click.echo(f"The manifest as a whole cannot be used: {one_line(error['message'] or '')}")
    if told["lines"] is None:
        return
    for name, said in _rows(told):
        click.echo(f"{name:<{NAME_WIDTH}}{said}"[:WIDTH])
    _print_faults(told)
    if told["note"]:
        _print_wrapped(one_line(told["note"]))


def _rows(told: Json) -> Iterator[tuple[str, str]]:
    counts, sample, tokens = told["lines"], told["sample"], told["tokens"]
    yield "lines", f"{counts['total']:,}, of which {counts['invalid']:,} would fail at once"
    yield "measured", f"{sample['measured']:,} of them, of which {sample['failed']:,} would fail"
    media = [f"{number:,} {kind}" for kind, number in told["media"].items() if number]
    yield "media", ", ".join(media) or "none"
    if tokens is not None:
        yield from _token_rows(tokens)
    if told["estimated_seconds"] is not None:
        yield "time", f"about {clock_face(told['estimated_seconds'])}"


def _token_rows(tokens: Json) -> Iterator[tuple[str, str]]:
    prompt, answer = tokens["prompt"], tokens["answer"]
    between = f" ({prompt['low']:,} to {prompt['high']:,})" if prompt["low"] < prompt["high"] else ""
    yield "prompt tokens", f"{prompt['estimated']:,}{between}"
    for kind in ("text", "image", "video", "audio"):
        if prompt[kind]:
            yield f"  {kind}", f"{prompt[kind]:,}"
    about = f"about {answer['expected']:,}, " if answer["expected"] is not None else ""
    yield "answer tokens", f"{about}at most {answer['upper_bound']:,}"


def _print_faults(told: Json) -> None:
    for error in told["lines"]["errors"]:
        lines = "line" if error["count"] == 1 else "lines"
        more = ", …" if error["count"] > len(error["lines"]) else ""
        numbers = ", ".join(map(str, error["lines"]))
        click.secho(
            f"{one_line(error['code'])}: {error['count']:,} {lines} ({numbers}{more})"[:WIDTH], bold=True
        )
        _print_wrapped(one_line(error["message"]), indent="  ")
    for failed in told["failed_lines"][:FAILURES_SHOWN]:
        named = f" ({failed['custom_id']})" if failed["custom_id"] else ""
        message = failed["error"].get("message") or "No reason was given."
        _print_wrapped(one_line(f"line {failed['line']}{named}: {message}"))
    if (left := told["sample"]["failed"] - FAILURES_SHOWN) > 0:
        click.echo(f"… and {left:,} more of the measured lines")


def _print_wrapped(text: str, indent: str = "") -> None:
    click.echo(textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent or "  "))
