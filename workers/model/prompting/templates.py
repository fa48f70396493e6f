"""Chat templates that an operator gives: a Jinja file, or a JSON file with the template and its special tokens."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.errors import ConfigurationError

TOKEN_FIELDS = ("bos_token", "eos_token", "unk_token")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Jinja source, and the special tokens that its file sets over the tokenizer's own."""

    source: str
    tokens: dict[str, str] = field(default_factory=dict)


def load_template(path: Path) -> ChatTemplate:
    """Read and check a template file: `.json` holds {"chat_template", "bos_token", …}, anything else is Jinja."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The chat template {path.name} cannot be read.", hint="Name a readable UTF-8 text file."
        ) from error
    template = _from_json(text, path.name) if path.suffix == ".json" else ChatTemplate(text)
    if not template.source.strip():
        raise ConfigurationError(f"The chat template {path.name} is empty.")
    _check_syntax(template.source, path.name)
    return template


def with_tokens(source: str, tokens: dict[str, str]) -> str:
    """The source with `tokens` set as its variables, on its first line so that line numbers stay."""
    settings = "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in tokens.items())
    return settings + source


def _from_json(text: str, name: str) -> ChatTemplate:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"The chat template {name} is not valid JSON: line {error.lineno}, column {error.colno}."
        ) from error
    if not isinstance(fields, dict) or not isinstance(fields.get("chat_template"), str):
        raise ConfigurationError(
            f"The chat template {name} has no text field 'chat_template'.",
            hint='Write {"chat_template": "…", "bos_token": "…", "eos_token": "…"}.',
        )
    return ChatTemplate(fields["chat_template"], _special_tokens(fields, name))


def _special_tokens(fields: dict[str, object], name: str) -> dict[str, str]:
    """A token is a string, or the object that tokenizer_config.json writes, or null for none."""
    tokens = {}
    for key in TOKEN_FIELDS:
        value = fields.get(key)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[key] = value
        elif value is not None:
            raise ConfigurationError(f"The chat template {name} has a '{key}' that is not text.")
    return tokens


class _GenerationTag(Extension):
    """`{% generation %}`: marks what a model learns from in training. Rendering a prompt looks through it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _check_syntax(source: str, name: str) -> None:
    environment = ImmutableSandboxedEnvironment(extensions=[loopcontrols, _GenerationTag])
    try:
        environment.parse(source)
    except TemplateSyntaxError as error:
        raise ConfigurationError(
            f"The chat template {name} has an error in line {error.lineno}: {error.message}"
        ) from error
