"""gunicorn with our options: which addresses it agrees to listen on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from live_service import ROOT

from service.settings import Settings
from service.store.schema import migrate


def check_start(data_dir: Path, bind: str) -> subprocess.CompletedProcess[str]:
    """Start, and wait for the end."""
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:service.gunicorn_config",
        "--no-control-socket",
    ]
    return subprocess.run(
        [*command, "-b", bind, "service.wsgi:app"],
        cwd=ROOT,
        env=os.environ | {"SLUICE_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    migrate(Settings(data_dir=tmp_path).database_url)
    return tmp_path


def test_without_a_key_it_refuses_to_listen_beyond_this_machine(data_dir: Path):
    refused = check_start(data_dir, "0.0.0.0:0")
    assert refused.returncode == 1
    assert "sluice keys create" in refused.stderr
    assert "Traceback" not in refused.stderr
