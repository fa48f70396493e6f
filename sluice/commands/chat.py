"""`sluice chat`: one question, answered word by word."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sluice.commands.options import (
    chosen_model,
    data_dir_option,
    json_option,
    key_option,
    model_options,
    response_format,
    schema_option,
)

if TYPE_CHECKING:
    from sluice.client import Client

MEDIA_PATH = click.Path(path_type=Path)


@click.command("chat", short_help="Ask one thing, with pictures, clips and sounds.")
@click.option("-i", "--input", "text", required=True, metavar="TEXT", help="What to ask.")
@click.option("--image", multiple=True, type=MEDIA_PATH, help="A picture to look at; may be repeated.")
@click.option("--video", multiple=True, type=MEDIA_PATH, help="A clip to watch; may be repeated.")
@click.option("--audio", multiple=True, type=MEDIA_PATH, help="A sound to listen to; may be repeated.")
@click.option("--system", help="What the model should be.")
@click.option("--max-tokens", type=click.IntRange(1), help="The longest answer.")
@click.option("--temperature", type=click.FloatRange(0), help="0 always gives the likeliest answer.")
@click.option("--seed", type=int, help="The same seed gives the same answer.")
@schema_option
@click.option(
    "--url", envvar="SLUICE_URL", help="A running sluice [default: the one of --data-dir, or a new one]."
)
@key_option
@data_dir_option
@json_option
@model_options
def command(
    text: str,
    image: tuple[Path, ...],
    video: tuple[Path, ...],
    audio: tuple[Path, ...],
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    json_schema: Path | None,
    url: str | None,
    key: str | None,
    data_dir: Path,
    as_json: bool,
    **model: Any,
) -> None:
    """Ask a model one thing, with pictures, clips and sounds beside it."""
    from sluice.media_files import Uploader, content_parts

    wanted = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "response_format": response_format(json_schema),
    }
    media = [("image", path) for path in image] + [("video", path) for path in video]
    media += [("audio", path) for path in audio]
    # A name that is served here already is asked for by name; a new stack serves what was named.
    remote = url is not None
    with _a_client(url, key, data_dir, model) as client:
        words: str | list[dict[str, Any]] = text
        if media:
            words = content_parts(media, text, Uploader(client))
        messages = [{"role": "system", "content": system}] if system else []
        body = {
            "model": (remote and model["model"]) or "default",
            "messages": [*messages, {"role": "user", "content": words}],
            **{name: value for name, value in wanted.items() if value is not None},
        }
        if as_json:
            click.echo(json.dumps(client.chat(body), ensure_ascii=False))
        else:
            _print_stream(client.stream_chat(body))


def _print_stream(chunks: Iterator[dict[str, Any]]) -> None:
    from sluice.terminal import plain

    usage: dict[str, Any] = {}
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", ()):
            click.echo(plain(choice["delta"].get("content") or ""), nl=False)
    click.echo()
    if usage:
        rate = usage.get("avg_compl_tok_per_sec")
        speed = f", {rate:.0f} tok/s" if rate else ""
        click.echo(f"({usage['prompt_tokens']} + {usage['completion_tokens']} tokens{speed})", err=True)


@contextmanager
def _a_client(url: str | None, key: str | None, data_dir: Path, model: dict[str, Any]) -> "Iterator[Client]":
    """A client of the named server, of the one that runs on this data directory, or of one started for us."""
    from sluice.client import Client
    from sluice.launcher.data_dir import DataDir

    if url is None and (running := DataDir(data_dir).running()):
        url = running.url
    if url is not None:
        with Client(url, key) as client:
            yield client
        return
    from sluice.launcher.options import StackOptions
    from sluice.launcher.ready import wait_until_ready
    from sluice.launcher.stack import Stack

    click.echo("Loading the model …", err=True)
    with Stack(StackOptions(data_dir=data_dir, model=chosen_model(**model))) as stack:
        wait_until_ready(stack)
        with Client(stack.url, key) as client:
            yield client
