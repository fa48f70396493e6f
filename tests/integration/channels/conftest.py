"""Servers for the channels to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from valkey_server import ValkeyServer

from service.settings import Settings


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One server for all tests that only read and write."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mortal_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of the test's own, to be killed."""
    server = ValkeyServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(valkey: ValkeyServer, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, redis_url_setting=valkey.url)
