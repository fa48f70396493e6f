"""What makes a run the same run, and what is said about it."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sluice.client import Batch
from sluice.launcher.options import ModelOptions
from sluice.runs.bar import Bar
from sluice.runs.pace import Pace, clock_face
from sluice.runs.plan import Plan, hub_revision, make_plan
from sluice.runs.record import Record
from sluice.runs.summary import answers_in, causes_in, print_summary
from sluice.runs.views import Lines

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "cats.jsonl"
    path.write_text('{"image": "a.png"}\n\n{"image": "b.png"}\n')
    return path


def a_batch(
    done: int, *, total: int = 100, failed: int = 0, tokens: int = 0, status: str = "in_progress"
) -> Batch:
    counts = {"total": total, "completed": done - failed, "failed": failed}
    usage = {"input_tokens": 0, "output_tokens": tokens}
    return Batch.from_json({"id": "batch_1", "status": status, "request_counts": counts, "usage": usage})


def planned(manifest: Path, defaults: dict[str, Any] | None = None, **model: Any) -> Plan:
    return make_plan(manifest, defaults or {}, ModelOptions(**model))


def test_the_same_command_is_the_same_run(manifest: Path) -> None:
    assert planned(manifest) == planned(manifest)
    assert planned(manifest).num_lines == 2
    assert planned(manifest).name.startswith("cats-")


def test_other_words_make_another_run(manifest: Path) -> None:
    assert planned(manifest).fingerprint != planned(manifest, {"prompt": "Describe."}).fingerprint


def test_other_bits_or_another_template_make_another_run(manifest: Path, tmp_path: Path) -> None:
    template = tmp_path / "chatml.jinja"
    template.write_text("one")
    with_one = planned(manifest, chat_template=template).fingerprint
    template.write_text("two")
    with_two = planned(manifest, chat_template=template).fingerprint

    assert (
        len({planned(manifest).fingerprint, planned(manifest, quant_bits=4).fingerprint, with_one, with_two})
        == 4
    )


def test_a_changed_line_makes_another_run(manifest: Path) -> None:
    before = planned(manifest)
    manifest.write_text(manifest.read_text().replace("a.png", "c.png"))

    assert planned(manifest).fingerprint != before.fingerprint


def test_changed_weights_make_another_run(manifest: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"one")
    before = planned(manifest, model=str(model))
    (model / "model.safetensors").write_bytes(b"three")

    assert planned(manifest, model=str(model)).fingerprint != before.fingerprint


def test_the_revision_of_a_hub_model_is_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert hub_revision("org/name") is None
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123abcd")

    assert hub_revision("org/name") == "0123abcd"


def test_a_record_survives_the_process_that_wrote_it(tmp_path: Path) -> None:
    Record.load(tmp_path / "run").updated(file_id="file-1").updated(batch_id="batch_1", has_ended=True)

    record = Record.load(tmp_path / "run")

    assert (record.number, record.file_id, record.batch_id, record.has_ended) == (
        1,
        "file-1",
        "batch_1",
        True,
    )


def test_starting_anew_forgets_the_batch_and_takes_a_new_number(tmp_path: Path) -> None:
    Record.load(tmp_path).updated(file_id="file-1", batch_id="batch_1", has_ended=True)

    Record.load(tmp_path).anew()

    assert Record.load(tmp_path) == Record(tmp_path, number=2)


def test_a_torn_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"number": 1, "file')

    assert Record.load(tmp_path) == Record(tmp_path)


def test_speed_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert pace.see(a_batch(0), 100, now=0.0).seconds_left is None
    pace.see(a_batch(10, tokens=100), 100, now=10.0)

    speed = pace.see(a_batch(50, tokens=500), 100, now=20.0)

    assert speed.jobs_per_second == pytest.approx(4.0)
    assert speed.tokens_per_second == pytest.approx(40.0)
    assert speed.seconds_left == pytest.approx(12.5)


@pytest.mark.parametrize(("seconds", "face"), [(0, "0:00"), (75, "1:15"), (3661.4, "1:01:01")])
def test_times_read_like_a_clock(seconds: float, face: str) -> None:
    assert clock_face(seconds) == face


def test_a_pipe_gets_plain_lines_and_the_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("cats.jsonl", 100) as view:
        view.say("Loading …")
        view.say("Loading …")
        view.show(a_batch(10), None)
        view.show(a_batch(20), None)
        view.show(a_batch(100, failed=1, status="completed"), None)

    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[:2] == ["Loading …", "cats.jsonl: 10/100 done"]
    assert lines[2].startswith("cats.jsonl: 100/100 done, 1 failed")
    assert len(lines) == 3


def an_error_row(
    line: int, code: str, message: str, hint: str | None = None, param: str | None = None
) -> str:
    error = {"code": code, "message": message, "param": param, "hint": hint, "line": line}
    response = {"status_code": 400, "request_id": "req_1", "body": {"error": error}}
    return json.dumps({"id": "x", "custom_id": f"cat-{line}", "response": response, "error": None}) + "\n"


def test_failures_are_told_by_cause_with_line_field_reason_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = tmp_path / "errors.jsonl"
    missing = [
        an_error_row(line, "media_unavailable", "There is no such file.", "Check.", "image")
        for line in range(7)
    ]
    never_ran = {
        "id": "y",
        "custom_id": "z",
        "response": None,
        "error": {"code": "batch_cancelled", "message": "No."},
    }
    errors.write_text(
        an_error_row(9, "invalid_json", "Not JSON.") + "".join(missing) + json.dumps(never_ran) + "\n"
    )

    print_summary(a_batch(10, failed=9), causes_in(errors), 75.0, None, errors)

    told = capsys.readouterr().out
    assert told.index("media_unavailable: 7 lines failed") < told.index("invalid_json: 1 line failed")
    assert "line 4 (cat-4): image: There is no such file." in told
    assert "… and 2 more" in told
    assert told.count("What to do: Check.") == 1
    assert "a line (z): No." in told
    assert "1 of 100 done, 9 failed · 0 + 0 tokens · 1:15" in told


def test_an_answer_cannot_steer_the_terminal(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    body = {"choices": [{"message": {"content": "A\x1b[2Jcat\r\n\x07 sits."}}]}
    output.write_text(json.dumps({"custom_id": "\x1b]0;x\x07", "response": {"body": body}}) + "\n")

    assert list(answers_in(output, 1)) == [("\ufffd]0;x\ufffd", "A\ufffd[2Jcat \ufffd sits.")]


def test_answers_are_read_only_as_far_as_they_are_shown(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    body = {"choices": [{"message": {"content": "A cat."}}]}
    row = json.dumps({"custom_id": "1", "response": {"body": body}})
    output.write_text(f"{row}\n{row}\nnot json, and never read")

    assert list(answers_in(output, 2)) == [("1", "A cat."), ("1", "A cat.")]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_bar_fits_its_terminal_and_shows_what_matters(columns: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=columns, force_terminal=True, color_system=None)
    bar = Bar("a manifest with a long name.jsonl", 1000, console)

    with bar:
        bar.say("Loading …")
        bar.show(a_batch(10, total=1000), None)
        bar.show(a_batch(500, total=1000, failed=3, tokens=5000), "A [bold]cat[/bold] " + "on a mat " * 50)

    lines = [ESCAPES.sub("", line).strip() for line in screen.getvalue().splitlines()]
    row, below = [line for line in lines if line][-2:]
    assert row.endswith("500/1000 · 3 failed")
    assert "━" * 10 in row
    assert "jobs/s" in below
    assert " left · A [bold]cat[/bold]" in below
    assert max(len(row), len(below)) <= columns
