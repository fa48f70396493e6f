"""`sluice run`, from a manifest to captions, whatever happens in between."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from front_door import (
    QUESTION,
    REPOSITORY,
    answers_in,
    children,
    kill_child,
    picture_rows,
    rows_of,
    run_folder,
    sluice,
    started,
    wait_for,
    write_manifest,
)
from sqlalchemy import func, select

from service.store.database import Database
from service.store.tables import Job, Result
from sluice.runs.record import Record

DEMO = REPOSITORY / "manifests" / "demo.jsonl"


def ledger(data_dir: Path) -> dict[str, tuple[int, float]]:
    """Every finished job's attempt and time of finishing, by id; a job with two results would show here."""
    database = Database(f"sqlite:///{data_dir / 'sluice.db'}")
    with database.reading() as db:
        rows = db.execute(
            select(Job.custom_id, Result.attempt, Result.finished_at).join(Result, Result.job_id == Job.id)
        ).all()
        assert len(rows) == db.scalar(select(func.count()).select_from(Result))
    database.close()
    return {str(custom_id): (attempt, finished_at) for custom_id, attempt, finished_at in rows}


def num_finished(cwd: Path) -> int:
    try:
        return len(ledger(run_folder(cwd)))
    except Exception:
        return 0  # not migrated yet


def test_the_demo_captions_are_right_and_are_only_made_once(tmp_path: Path) -> None:
    expected = {
        row["custom_id"]: row["expected"] for row in rows_of(REPOSITORY / "manifests" / "demo.expected.jsonl")
    }

    first = sluice("run", DEMO, "--show", "100", cwd=tmp_path)

    assert first.returncode == 0, first.stderr
    answers = answers_in(tmp_path / "demo.results.jsonl")
    assert answers.keys() == expected.keys()
    wrong = {name: (answers[name], right) for name, right in expected.items() if answers[name] not in right}
    assert len(wrong) <= 1, wrong
    assert all(text in first.stdout for text in answers.values())
    assert f"{len(expected)} of {len(expected)} done" in first.stdout
    assert "tokens" in first.stdout
    assert not (tmp_path / "demo.errors.jsonl").exists()

    made = ledger(run_folder(tmp_path))
    (tmp_path / "demo.results.jsonl").unlink()
    second = sluice("run", DEMO, "--json", cwd=tmp_path)

    assert second.returncode == 0
    assert json.loads(second.stdout)["completed"] == len(expected)
    assert answers_in(tmp_path / "demo.results.jsonl") == answers
    assert ledger(run_folder(tmp_path)) == made


@pytest.fixture(scope="module")
def bad_lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run in which five of eight lines cannot succeed."""
    folder = tmp_path_factory.mktemp("bad-lines")
    rows, right = picture_rows(folder, 3)
    (folder / "media" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbut not really")
    rows[1:1] = [
        '{"image": "media/0.png", "prompt": ',
        {"id": "gone", "image": "media/gone.png", "prompt": QUESTION},
        {"id": "strange", "image": "media/0.png", "prompt": QUESTION, "model": "gpt-17"},
        {"id": "broken", "image": "media/broken.png", "prompt": QUESTION},
        {"id": "typo", "image": "media/0.png", "promt": QUESTION},
    ]
    write_manifest(folder / "lines.jsonl", rows)
    told = sluice("run", "lines.jsonl", cwd=folder)
    return {"folder": folder, "right": right, "told": told}


def test_good_lines_succeed_beside_bad_ones(bad_lines: dict[str, Any]) -> None:
    assert bad_lines["told"].returncode == 1
    assert answers_in(bad_lines["folder"] / "lines.results.jsonl") == bad_lines["right"]


@pytest.mark.parametrize(
    ("line", "custom_id", "field", "code", "reason"),
    [
        (2, "line-2", None, "invalid_json", "not valid JSON"),
        (3, "gone", "messages[0].content[0].image_url", "media_unavailable", "does not exist"),
        (4, "strange", "model", "model_not_found", "gpt-17"),
        (5, "broken", "messages[0].content[0].image_url", "media_unrecognized", "not of a format"),
        (6, "typo", "promt", "unknown_field", "promt"),
    ],
)
def test_a_bad_line_fails_with_its_number_field_and_reason(
    bad_lines: dict[str, Any], line: int, custom_id: str, field: str | None, code: str, reason: str
) -> None:
    rows = {row["custom_id"]: row for row in rows_of(bad_lines["folder"] / "lines.errors.jsonl")}
    error = rows[custom_id]["response"]["body"]["error"]

    assert len(rows) == 5
    assert error["line"] == line
    assert error["param"] == field
    assert error["code"] == code
    assert reason in error["message"]
    assert f"line {line} ({custom_id}):" in bad_lines["told"].stdout
    assert error["message"] in bad_lines["told"].stdout


def test_a_run_goes_on_by_itself_when_its_engine_is_killed(tmp_path: Path) -> None:
    rows, right = picture_rows(tmp_path, 160)
    write_manifest(tmp_path / "many.jsonl", rows)

    with started("run", "many.jsonl", "--json", cwd=tmp_path) as process:
        wait_for(lambda: num_finished(tmp_path) >= 10)
        before = ledger(run_folder(tmp_path))
        kill_child(process.pid, "engine@")
        told, complaints = process.communicate(timeout=100)

    assert len(before) < len(rows), "the engine was done before it was killed"
    assert process.returncode == 0, complaints
    assert json.loads(told)["completed"] == len(rows)
    assert answers_in(tmp_path / "many.results.jsonl") == right
    after = ledger(run_folder(tmp_path))
    assert {name: after[name] for name in before} == before


def test_the_same_command_finishes_what_a_killed_one_left(tmp_path: Path) -> None:
    rows, right = picture_rows(tmp_path, 160)
    write_manifest(tmp_path / "many.jsonl", rows)
    with started("run", "many.jsonl", cwd=tmp_path) as process:
        wait_for(lambda: num_finished(tmp_path) >= 10)
        offspring = children(process.pid)
        process.kill()
        process.wait(10)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in offspring), seconds=10)
    before = ledger(run_folder(tmp_path))
    assert len(before) < len(rows), "the run was done before it was killed"
    # As if it had died between making the batch and noting its name: it is found by its key.
    Record.load(run_folder(tmp_path)).updated(batch_id=None)

    finished = sluice("run", "many.jsonl", cwd=tmp_path)

    assert finished.returncode == 0, finished.stderr
    assert "Going on where it stopped" in finished.stderr
    assert answers_in(tmp_path / "many.results.jsonl") == right
    after = ledger(run_folder(tmp_path))
    assert len(after) == len(rows)
    assert {name: after[name] for name in before} == before


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    rows, _ = picture_rows(tmp_path, 1)
    write_manifest(tmp_path / "one.jsonl", rows)

    with started("run", "one.jsonl", cwd=tmp_path) as process:
        wait_for(lambda: (tmp_path / ".sluice").exists() and children(process.pid))
        os.kill(process.pid, signal.SIGINT)
        told, complaints = process.communicate(timeout=60)

    assert process.returncode == 130
    assert told == ""
    assert complaints.rstrip().endswith("Stopped. The same command goes on where this one left off.")
    assert "Traceback" not in complaints
