"""What an operator asks of quantization: on the command line, in the environment, and what is refused by name."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from service.errors import ConfigurationError
from service.settings import LINEAR_KERNELS, QUANT_BITS, QUANT_GROUP_SIZES, QUANT_ORGANIZATIONS, Settings
from sluice.commands.options import chosen_model, model_options
from sluice.launcher.database import settings_from
from sluice.launcher.options import ModelOptions, StackOptions
from sluice.runs.plan import make_plan


def asked(*arguments: str) -> ModelOptions:
    """What a command understands."""
    understood: list[ModelOptions] = []

    @click.command()
    @model_options
    def command(**model: object) -> None:
        understood.append(chosen_model(**model))  # type: ignore[arg-type]

    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return understood[0]


def test_flags_reach_the_workers_settings() -> None:
    options = asked(
        *("--quant", "4", "--quant-group-size", "32", "--quant-organization", "moqe"),
        *("--quant-rules", r'{"down_proj": 8, "layers\\.0\\.": null}', "--linear-kernel", "int4"),
    )

    settings = settings_from(options.environment())

    assert (settings.quant_bits, settings.quant_group_size, settings.quant_organization) == (4, 32, "moqe")
    assert list(settings.quant_rules.items()) == [("down_proj", 8), (r"layers\.0\.", None)]
    assert settings.linear_kernel == "int4"


def test_flags_have_the_names_that_mistralrs_users_know() -> None:
    assert asked("--isq", "3", "--isq-organization", "moqe") == ModelOptions(
        quant_bits=3, quant_organization="moqe"
    )


@pytest.mark.parametrize(
    ("flag", "choices"),
    [
        ("--quant", [*QUANT_BITS, "none"]),
        ("--quant-group-size", QUANT_GROUP_SIZES),
        ("--quant-organization", QUANT_ORGANIZATIONS),
        ("--linear-kernel", LINEAR_KERNELS),
    ],
)
def test_the_command_line_offers_what_the_settings_take(flag: str, choices: list[object]) -> None:
    command = model_options(click.Command("c", callback=lambda **_: None))
    option = next(parameter for parameter in command.params if flag in parameter.opts)

    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(map(str, choices))
    for choice in choices:
        asked(flag, str(choice)).environment()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("QUANT_BITS", "5", "SLUICE_QUANT_BITS cannot be 5"),
        ("QUANT_GROUP_SIZE", "100", "SLUICE_QUANT_GROUP_SIZE cannot be 100"),
        ("QUANT_ORGANIZATION", "all", "SLUICE_QUANT_ORGANIZATION cannot be all"),
        ("LINEAR_KERNEL", "fast", "SLUICE_LINEAR_KERNEL cannot be fast"),
        ("QUANT_RULES", "mlp=4", "SLUICE_QUANT_RULES is not JSON"),
        ("QUANT_RULES", '{"(": 4}', r"SLUICE_QUANT_RULES holds '\(', which is not a regular expression"),
        ("QUANT_RULES", '{"mlp": 5}', "A quantization rule cannot ask for 5 bits"),
        ("QUANT_RULES", "[4]", "wrong value: SLUICE_QUANT_RULES"),
        ("QUANT_SKIP", '["["]', r"SLUICE_QUANT_SKIP holds '\[', which is not a regular expression"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(name: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        settings_from({f"SLUICE_{name}": value})


def test_quantized_checkpoints_are_kept_in_the_data_directory_unless_told_otherwise(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).quant_cache_dir == tmp_path / "quantized"
    assert Settings(data_dir=tmp_path, quant_cache=Path("/elsewhere")).quant_cache_dir == Path("/elsewhere")
    assert settings_from({"SLUICE_QUANT_CACHE": "none"}).quant_cache_dir is None


def test_all_runs_of_a_data_directory_share_their_quantized_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = StackOptions(tmp_path / "runs" / "cats", quant_cache=tmp_path / "quantized")
    served = StackOptions(tmp_path)

    folders = [settings_from(options.environment(None)).quant_cache_dir for options in (run, served)]
    monkeypatch.setenv("SLUICE_QUANT_CACHE", "none")

    assert folders == [tmp_path / "quantized"] * 2
    assert settings_from(run.environment(None)).quant_cache_dir is None


def test_nothing_is_skipped_when_the_list_is_empty() -> None:
    assert settings_from({}).quant_skip is None
    assert settings_from({"SLUICE_QUANT_SKIP": "[]"}).quant_skip == ()
    assert settings_from({"SLUICE_QUANT_RULES": "none"}).quant_rules == {}


def test_other_rules_in_another_order_make_another_run(tmp_path: Path) -> None:
    """A run is found again only if every answer would be the same."""
    manifest = tmp_path / "cats.jsonl"
    manifest.write_text('{"prompt": "a"}\n')
    models = [
        ModelOptions(),
        ModelOptions(quant_group_size=32),
        ModelOptions(quant_organization="moqe"),
        ModelOptions(quant_rules='{"a": 4, "b": 2}'),
        ModelOptions(quant_rules='{"b": 2, "a": 4}'),
    ]

    assert len({make_plan(manifest, {}, model).fingerprint for model in models}) == len(models)
