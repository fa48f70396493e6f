"""What a finished batch amounts to: the first answers, the counts, and failures grouped by cause."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sluice.client import Batch, Json
from sluice.runs.follow import text_of
from sluice.runs.pace import clock_face
from sluice.terminal import one_line

EXAMPLES_PER_CAUSE = 5


@dataclass(frozen=True)
class Failure:
    """One line that did not succeed. line: its number in the manifest."""

    line: int | None
    custom_id: str | None
    field: str | None
    code: str
    message: str
    hint: str | None

    @classmethod
    def from_row(cls, row: Json) -> "Failure":
        """Read a line of an error file: OpenAI puts a request's error in its response, any other beside it."""
        body = (row.get("response") or {}).get("body") or {}
        error = body.get("error") or row.get("error") or {}
        return cls(
            line=error.get("line"),
            custom_id=row.get("custom_id"),
            field=error.get("param"),
            code=str(error.get("code") or "unknown"),
            message=str(error.get("message") or "No reason was given."),
            hint=error.get("hint"),
        )


@dataclass
class Cause:
    """Failures of one kind: how many, and the first few."""

    code: str
    num_lines: int = 0
    examples: list[Failure] = field(default_factory=list)

    def add(self, failure: Failure) -> None:
        """Count a failure, and keep it if there is room."""
        self.num_lines += 1
        if len(self.examples) < EXAMPLES_PER_CAUSE:
            self.examples.append(failure)

    @property
    def hints(self) -> list[str]:
        """What to do about it, each piece of advice once."""
        return list(dict.fromkeys(failure.hint for failure in self.examples if failure.hint))


def causes_in(errors: Path | None) -> list[Cause]:
    """The failures of an error file by cause, the most frequent first."""
    causes: dict[str, Cause] = {}
    for row in rows_of(errors):
        failure = Failure.from_row(row)
        causes.setdefault(failure.code, Cause(failure.code)).add(failure)
    return sorted(causes.values(), key=lambda cause: -cause.num_lines)


def answers_in(output: Path | None, limit: int) -> Iterator[tuple[str, str]]:
    """The first `limit` answers as (custom_id, text), each on one line."""
    for row in islice(rows_of(output), limit):
        text = text_of((row.get("response") or {}).get("body") or {})
        yield one_line(str(row.get("custom_id"))), one_line(text)


def rows_of(path: Path | None) -> Iterator[Json]:
    """The rows of a JSONL file, or none where there is no file."""
    if path is None:
        return
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)


def as_json(
    batch: Batch, causes: list[Cause], seconds: float, output: Path | None, errors: Path | None
) -> Json:
    """The summary for scripts."""
    return {
        "batch_id": batch.id,
        "status": batch.status,
        "total": batch.total,
        "completed": batch.completed,
        "failed": batch.failed,
        "not_run": batch.skipped,
        "prompt_tokens": batch.prompt_tokens,
        "completion_tokens": batch.completion_tokens,
        "seconds": round(seconds, 3),
        "output": str(output) if output else None,
        "errors": str(errors) if errors else None,
        "reasons": batch.reasons,
        "failures": [
            {
                "code": cause.code,
                "lines": cause.num_lines,
                "hints": cause.hints,
                "examples": [_shown(example) for example in cause.examples],
            }
            for cause in causes
        ],
    }


def _shown(failure: Failure) -> dict[str, Any]:
    return {
        "line": failure.line,
        "custom_id": failure.custom_id,
        "field": failure.field,
        "message": failure.message,
    }


def print_answers(output: Path | None, limit: int, num_completed: int) -> None:
    """The first answers, a line each; where they are cut off is said."""
    answers = list(answers_in(output, limit))
    width = min(max((len(custom_id) for custom_id, _ in answers), default=0), 40)
    for custom_id, text in answers:
        click.echo(f"{custom_id:<{width}}  {text}")
    if answers and num_completed > len(answers):
        click.echo(f"… and {num_completed - len(answers)} more in {output}")
    if answers:
        click.echo()


def print_summary(
    batch: Batch, causes: list[Cause], seconds: float, output: Path | None, errors: Path | None
) -> None:
    """Counts, tokens, time, failures by cause, and where the files are."""
    _print_causes(causes)
    for reason in batch.reasons:
        click.echo(f"The batch as a whole was refused: {reason}")
    counts = f"{batch.completed} of {batch.total} done"
    counts += f", {batch.failed} failed" if batch.failed else ""
    counts += f", {batch.skipped} not run" if batch.skipped else ""
    tokens = f"{batch.prompt_tokens:,} + {batch.completion_tokens:,} tokens"
    click.echo(f"{counts} · {tokens} · {clock_face(seconds)}")
    if output:
        click.echo(f"Results: {output}")
    if errors:
        click.echo(f"Errors:  {errors}")


def _print_causes(causes: list[Cause]) -> None:
    for cause in causes:
        lines = "line" if cause.num_lines == 1 else "lines"
        click.secho(f"{cause.code}: {cause.num_lines} {lines} failed", bold=True)
        for failure in cause.examples:
            click.echo(f"  {one_line(_described(failure))}")
        if cause.num_lines > len(cause.examples):
            click.echo(f"  … and {cause.num_lines - len(cause.examples)} more")
        for hint in cause.hints:
            click.echo(f"  What to do: {one_line(hint)}")
    if causes:
        click.echo()


def _described(failure: Failure) -> str:
    where = f"line {failure.line}" if failure.line is not None else "a line"
    named = f" ({failure.custom_id})" if failure.custom_id else ""
    field_name = f" {failure.field}:" if failure.field else ""
    return f"{where}{named}:{field_name} {failure.message}"
