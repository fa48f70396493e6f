"""What a person meets at the command line."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from sluice.cli import COMMANDS, LazyGroup, _exit_code, cli


def sluice(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sluice", *arguments], capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    assert isinstance(cli, LazyGroup)
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    assert command.name == name
    assert command.help
    assert len(command.get_short_help_str(limit=66)) <= 66
    assert "..." not in command.get_short_help_str(limit=66)


def test_an_unknown_command_is_one_sentence_and_a_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(["rnu"]) == 2

    assert capsys.readouterr().err == "sluice: No such command 'rnu'. See: sluice --help\n"


def test_a_missing_manifest_is_one_sentence_and_a_next_step(tmp_path: Path) -> None:
    told = sluice(
        "run", "nowhere.jsonl", cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path)}
    )

    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr.startswith(
        "sluice: The manifest nowhere.jsonl cannot be read (no such file or directory)."
    )
    assert len(told.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_without_lines_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").write_text("\n \n")

    assert _exit_code(["run", str(tmp_path / "empty.jsonl")]) == 2

    assert "has no lines" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [("run", "lines.jsonl"), ("submit", "lines.jsonl"), ("chat", "-i", "Hello")]
)
def test_a_schema_that_is_no_json_is_refused_before_anything_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.jsonl").write_text('{"prompt": "Hello"}\n')
    (tmp_path / "schema.json").write_text("{")

    assert _exit_code([*command, "--json-schema", "schema.json"]) == 2

    assert "schema.json is not a JSON file" in capsys.readouterr().err
    assert not (tmp_path / ".sluice").exists()


def test_a_server_that_is_not_there_is_said_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(["status", "--url", "http://127.0.0.1:9"]) == 2

    assert (
        capsys.readouterr().err
        == "sluice: No sluice answers at http://127.0.0.1:9. Start one with: sluice serve\n"
    )


def test_an_error_of_our_own_leaves_a_file_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(cli, "main", breaks)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    assert _exit_code(["run", "x"]) == 2

    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "a secret detail" not in told
    (report,) = tmp_path.iterdir()
    assert "a secret detail" in report.read_text()


def test_ctrl_c_has_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)

    assert _exit_code(["run", "x"]) == 130
