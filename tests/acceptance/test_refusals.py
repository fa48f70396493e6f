"""What cannot work is said in one sentence, with a next step, before anything is started."""

import socket
import subprocess
from pathlib import Path

import pytest
from front_door import sluice
from sqlalchemy import text

from service.store.database import Database
from sluice.launcher.data_dir import DataDir


def assert_one_sentence(told: subprocess.CompletedProcess[str], *words: str) -> None:
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("sluice: ")]
    assert told.returncode == 2
    assert all(word in line for word in words), line
    assert "Traceback" not in told.stderr + told.stdout


def test_a_missing_manifest(tmp_path: Path) -> None:
    assert_one_sentence(
        sluice("run", "gone.jsonl", cwd=tmp_path), "gone.jsonl", "no such file", "Check the path"
    )


@pytest.mark.parametrize(
    "arguments", [("run", "x.jsonl", "--bogus"), ("run", "x.jsonl", "--quant", "5"), ("frob",)]
)
def test_a_bad_flag_or_command(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert_one_sentence(sluice(*arguments, cwd=tmp_path), "See: sluice")


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = sluice("serve", "-p", taken.getsockname()[1], cwd=tmp_path)

    assert_one_sentence(told, "Cannot listen", "address already in use", "--port")


def test_a_data_directory_in_use(tmp_path: Path) -> None:
    held = DataDir(tmp_path / ".sluice")
    held.hold()
    try:
        told = sluice("serve", "-p", "0", cwd=tmp_path)
    finally:
        held.release()

    assert_one_sentence(told, "in use by another sluice", "--data-dir")


def test_a_database_that_is_too_new(tmp_path: Path) -> None:
    sluice("migrate", "--data-dir", "data", cwd=tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'data' / 'sluice.db'}")
    with database.transaction() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()

    told = sluice("serve", "-p", "0", "--data-dir", "data", cwd=tmp_path)

    assert_one_sentence(told, "newer version", "--data-dir")


def test_another_address_without_a_key(tmp_path: Path) -> None:
    told = sluice("serve", "-p", "0", "--host", "0.0.0.0", cwd=tmp_path)

    assert_one_sentence(told, "0.0.0.0", "sluice keys create")


def test_a_model_that_is_not_there_and_nothing_is_left_running(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    told = sluice("serve", "-p", "0", "-m", "empty", cwd=tmp_path)

    assert_one_sentence(told, "engine", "could not start", "log")
    data_dir = DataDir(tmp_path / ".sluice")
    assert data_dir.running() is None
    data_dir.hold()
    data_dir.release()
