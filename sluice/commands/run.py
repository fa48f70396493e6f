"""`sluice run`: a manifest in, captions out, on this machine."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sluice.commands.options import (
    chosen_model,
    data_dir_option,
    json_option,
    model_options,
    response_format,
    schema_option,
)

if TYPE_CHECKING:
    from sluice.runs.run import Finished

SHOWN_ANSWERS = 20


@click.command("run", short_help="Run a manifest here, one result for each line.")
@click.argument("manifest", type=click.Path(path_type=Path))
@model_options
@click.option("--prompt", help="What to ask about lines that do not say.")
@click.option("--system", help="What the model should be, for lines that do not say.")
@click.option("--max-tokens", type=click.IntRange(1), help="The longest answer, for lines that do not say.")
@click.option("--temperature", type=click.FloatRange(0), help="0 always gives the likeliest answer.")
@click.option("--seed", type=int, help="The same seed gives the same answers.")
@schema_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Results as JSONL [default: MANIFEST.results.jsonl, here].",
)
@click.option(
    "--errors",
    type=click.Path(path_type=Path),
    help="Failed lines as JSONL [default: MANIFEST.errors.jsonl, here].",
)
@click.option(
    "--show",
    type=click.IntRange(0),
    default=SHOWN_ANSWERS,
    show_default=True,
    help="How many answers to print.",
)
@click.option(
    "--allow-files",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="A folder besides the manifest's own whose files lines may name; may be repeated.",
)
@click.option("--again", is_flag=True, help="Run every line anew, although it was run before.")
@data_dir_option
@json_option
def command(
    manifest: Path,
    prompt: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    json_schema: Path | None,
    output: Path | None,
    errors: Path | None,
    show: int,
    allow_files: tuple[Path, ...],
    again: bool,
    data_dir: Path,
    as_json: bool,
    **model: Any,
) -> int:
    """Run every line of MANIFEST, a JSONL file, and write one result for each.

    Stop it with Ctrl-C, or by pulling the plug: the same command goes on where it stopped, and no line runs twice.
    Exit codes: 0 all lines succeeded, 1 some failed, 2 wrong usage or configuration, 130 stopped by Ctrl-C.
    """
    from sluice.runs.plan import make_plan
    from sluice.runs.run import Where, run

    began_at = time.monotonic()
    wanted = {
        "prompt": prompt,
        "system": system,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "response_format": response_format(json_schema),
    }
    defaults = {name: value for name, value in wanted.items() if value is not None}
    plan = make_plan(manifest, defaults, chosen_model(**model))
    where = Where(
        data_dir=data_dir,
        output=output or Path(f"{manifest.stem}.results.jsonl"),
        errors=errors or Path(f"{manifest.stem}.errors.jsonl"),
        allow_files=allow_files,
    )
    try:
        finished = run(plan, where, again=again)
    except KeyboardInterrupt:
        click.echo("Stopped. The same command goes on where this one left off.", err=True)
        raise
    return _tell(finished, time.monotonic() - began_at, show=show, as_json=as_json)


def _tell(finished: "Finished", seconds: float, *, show: int, as_json: bool) -> int:
    from sluice.runs import summary

    batch, output, errors = finished.batch, finished.output, finished.errors
    causes = summary.causes_in(errors)
    if as_json:
        click.echo(json.dumps(summary.as_json(batch, causes, seconds, output, errors), ensure_ascii=False))
    else:
        summary.print_answers(output, show, batch.completed)
        summary.print_summary(batch, causes, seconds, output, errors)
    return 0 if batch.has_succeeded else 1
