"""Options that several commands take."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sluice.client import Client
    from sluice.launcher.options import ModelOptions

DEFAULT_DATA_DIR = Path(".sluice")
DEFAULT_URL = "http://127.0.0.1:8000"

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="Where the database, results and logs of this stack are kept.",
)
url_option = click.option(
    "--url", envvar="SLUICE_URL", default=DEFAULT_URL, show_default=True, help="A running sluice."
)
key_option = click.option("--key", envvar="SLUICE_API_KEY", help="API key, where the server asks for one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
schema_option = click.option(
    "--json-schema",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A JSON schema that answers must follow.",
)


def model_options(function: Decorated) -> Decorated:
    """Which model, and how it is loaded."""
    option = click.option(
        "-m", "--model", help="A folder or a Hugging Face name [default: the bundled tiny model]."
    )
    return option(loading_options(function))


def loading_options(function: Decorated) -> Decorated:
    """How a model is loaded."""
    for option in (
        click.option("--served-name", help="The name that clients call the model by."),
        click.option(
            "--quant",
            "--isq",
            "quant",
            type=click.Choice(["8", "4", "3", "2", "1", "none"]),
            help="HQQ bits for the weights, or none [default: 8].",
        ),
        click.option(
            "--quant-group-size",
            type=click.Choice(["8", "16", "32", "64", "128", "256"]),
            help="How many weights share a scale [default: 64].",
        ),
        click.option(
            "--quant-rules",
            metavar="JSON",
            help="""Bits by layer-name pattern, such as '{"mlp": 4, "o_proj": null}'; the first match decides.""",
        ),
        click.option(
            "--quant-organization",
            "--isq-organization",
            "quant_organization",
            type=click.Choice(["default", "moqe"]),
            help="moqe: quantize a mixture's experts alone.",
        ),
        click.option(
            "--linear-kernel",
            type=click.Choice(["auto", "torch", "onednn-packed", "panels", "int4", "dequantize"]),
            help="How linear layers compute [default: what a measurement says].",
        ),
        click.option("--device", help="cpu, cuda, cuda:1 … [default: the best there is]."),
        click.option(
            "-c",
            "--chat-template",
            "--jinja-explicit",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="A .jinja or .json file to use instead of the model's own chat template.",
        ),
    ):
        function = option(function)
    return function


def several_models(function: Decorated) -> Decorated:
    """The same for commands that serve several models at once."""
    option = click.option(
        "-m",
        "--model",
        multiple=True,
        help="A folder or a Hugging Face name; may be repeated, the first is `default` [default: the bundled model].",
    )
    return option(loading_options(function))


def chosen_model(
    model: str | tuple[str, ...] | None,
    served_name: str | None,
    quant: str | None,
    device: str | None,
    chat_template: Path | None,
    quant_group_size: str | None,
    quant_rules: str | None,
    quant_organization: str | None,
    linear_kernel: str | None,
) -> "ModelOptions":
    """The value of `model_options`."""
    from sluice.launcher.options import ModelOptions

    models = model if isinstance(model, tuple) else (model,) if model else ()
    bits = {None: None, "none": 0}.get(quant, int(quant) if quant and quant != "none" else None)
    return ModelOptions(
        models[0] if models else None,
        served_name,
        bits,
        device,
        chat_template,
        int(quant_group_size) if quant_group_size else None,
        quant_rules,
        quant_organization,
        linear_kernel,
        models[1:],
    )


def response_format(json_schema: Path | None) -> dict[str, Any] | None:
    """The value of `schema_option` as a request says it."""
    if json_schema is None:
        return None
    try:
        schema = json.loads(json_schema.read_bytes())
    except ValueError:
        raise click.UsageError(f"{json_schema} is not a JSON file.") from None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def connected(url: str, key: str | None) -> "Client":
    """A client for a running server."""
    from sluice.client import Client

    return Client(url, key)
