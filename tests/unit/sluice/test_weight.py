"""What may not be loaded, and what may not take long."""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "sqlalchemy", "celery", "flask", "pydantic", "httpx", "rich")
HELP_CPU_SECONDS = 0.3


def loaded_by(code: str, data_dir: Path) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "SLUICE_DATA_DIR": str(data_dir)},
    )
    return {name.partition(".")[0] for name in told.stdout.split()}


def cpu_seconds_of(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_the_web_process_never_loads_torch(tmp_path: Path) -> None:
    loaded = loaded_by("import service.wsgi", tmp_path)

    assert "flask" in loaded
    assert not loaded & {"torch", "transformers", "hqq", "av", "PIL", "numpy"}


@pytest.mark.parametrize("code", ["import sluice", "import sluice.cli"])
def test_the_front_door_opens_without_what_lies_behind_it(code: str, tmp_path: Path) -> None:
    assert not loaded_by(code, tmp_path) & set(HEAVY)


@pytest.mark.parametrize(
    "arguments", [("-c", "import sluice"), ("-m", "sluice", "--help")], ids=["import", "help"]
)
def test_import_and_help_are_quick(arguments: tuple[str, ...]) -> None:
    cpu_seconds_of(*arguments)  # the first start compiles

    assert statistics.median(cpu_seconds_of(*arguments) for _ in range(5)) < HELP_CPU_SECONDS
