"""The parts that actions work with, on both databases, with blobs in a folder and a broker made of files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.actions.parts import Parts, assemble
from service.contract.callers import Caller
from service.settings import Settings


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        database_url_setting=database_url,
        redis_url_setting=None,
        blob_url_setting=None,
        allow_files="",
        served_name="tiny",
        ingest_chunk_lines=50,
    )


@pytest.fixture
def parts(settings: Settings) -> Iterator[Parts]:
    parts = assemble(settings)
    yield parts
    parts.close()


@pytest.fixture
def caller() -> Caller:
    return Caller()
