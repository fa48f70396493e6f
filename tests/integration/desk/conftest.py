"""A real device: the bundled model, real decoders, a real database. Only Celery is not there."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from service.actions.parts import Parts, assemble
from service.settings import Settings
from workers.device import Device
from workers.model.loading import Loaded, LoadOptions, load

WAIT_SECONDS = 60.0


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    """The bundled model in full precision, loaded once."""
    torch.set_num_threads(1)
    return load(LoadOptions.from_settings(Settings(quant_bits=None)))


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        database_url_setting=database_url,
        redis_url_setting=None,
        blob_url_setting=None,
        allow_files=str(tmp_path),
        quant_bits=None,
        max_slots=4,
        num_decoders=1,
        num_preparers=0,
        heartbeat_seconds=0.3,
        poll_seconds=0.1,
        reap_seconds=0.3,
        drain_seconds=0.0,
    )


@pytest.fixture
def parts(settings: Settings) -> Iterator[Parts]:
    parts = assemble(settings)
    yield parts
    parts.close()


@pytest.fixture
def device(parts: Parts, loaded: Loaded) -> Iterator[Device]:
    """Not started yet."""
    device = Device(parts, load=lambda _: loaded)
    yield device
    device.stop()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds, and fails if it never does."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "it never came about"
            time.sleep(0.02)

    return wait
