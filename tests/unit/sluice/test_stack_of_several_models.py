"""Serving several models: how they are named, and how that reaches the processes."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from service.contract.tickets import engine_queues
from service.errors import ConfigurationError
from service.settings import Settings
from sluice.commands.options import chosen_model, several_models
from sluice.launcher.database import settings_from
from sluice.launcher.options import ModelOptions, StackOptions


def options_of(*arguments: str) -> ModelOptions:
    """What a command that serves several models makes of its arguments."""
    chosen: list[ModelOptions] = []

    @click.command()
    @several_models
    def command(**model: Any) -> None:
        chosen.append(chosen_model(**model))

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return chosen[0]


def test_the_first_model_is_the_default_and_the_others_are_loaded_the_same_way(tmp_path: Path) -> None:
    options = options_of("-m", "org/first", "-m", "org/second", "--quant", "4")

    settings = settings_from(StackOptions(tmp_path, model=options).environment(None))

    assert settings.model_name == "first"
    assert settings.model_names == ("first", "second")
    assert [(each.model, each.quant_bits) for each in settings.each_model] == [
        ("org/first", 4),
        ("org/second", 4),
    ]


def test_no_model_named_means_the_bundled_one() -> None:
    assert options_of() == ModelOptions()
    assert Settings().model_names == (Settings().model_name,)


def test_a_further_model_may_differ_in_precision_template_and_name() -> None:
    more = [{"model": "org/b", "served_name": "bee", "quant_bits": None, "chat_template": "b.jinja"}]
    settings = settings_from({"SLUICE_QUANT_BITS": "3", "SLUICE_MORE_MODELS": json.dumps(more)})

    first, second = settings.each_model

    assert (second.model_name, second.quant_bits, second.chat_template) == ("bee", None, Path("b.jinja"))
    assert (first.model_name, first.quant_bits, first.chat_template) == (settings.model_name, 3, None)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("not json", "SLUICE_MORE_MODELS is not JSON"),
        ('[{"model": "a/x"}, {"model": "b/x"}]', "Two models would be called 'x'"),
        ('[{"model": "a/x", "quant_bits": 5}]', "HQQ cannot store 5 bits"),
        ('[{"model": "a/x", "colour": "red"}]', "SLUICE_MORE_MODELS"),
    ],
)
def test_a_wrong_list_of_models_is_refused_by_name(value: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        settings_from({"SLUICE_MORE_MODELS": value})


def test_a_worker_listens_on_the_queue_of_each_of_its_models() -> None:
    assert engine_queues(("org/b", "a")) == "engine.a,engine.org-b"
