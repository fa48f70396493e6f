"""The real app on a real SQLite database, called without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.actions.parts import Parts, assemble
from service.api.app import create_app
from service.contract.lifecycle import WorkerRole
from service.settings import Settings
from service.store import keys, workers

MODEL = "tiny"


@pytest.fixture
def settings(sqlite_url: str, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        database_url_setting=sqlite_url,
        redis_url_setting=None,
        blob_url_setting=None,
        served_name=MODEL,
        max_request_bytes=100_000,
        max_upload_bytes=300_000,
    )


@pytest.fixture
def parts(settings: Settings) -> Iterator[Parts]:
    parts = assemble(settings)
    yield parts
    parts.close()


@pytest.fixture
def http(parts: Parts) -> FlaskClient:
    return create_app(parts=parts).test_client()


@pytest.fixture
def ready(parts: Parts) -> str:
    """A live worker with the model loaded, which takes no jobs by itself; its id."""
    with parts.database.transaction() as db:
        worker_id = workers.register(db, WorkerRole.ENGINE, "test", [MODEL], "cpu")
        workers.set_model_state(db, worker_id, MODEL, "ready", "r1")
    return worker_id


@pytest.fixture
def make_key(parts: Parts) -> Callable[[str], dict[str, Any]]:
    """Make a key for a tenant; answers the headers that use it."""

    def make(tenant: str) -> dict[str, Any]:
        with parts.database.transaction() as db:
            _, secret = keys.create(db, tenant)
        return {"Authorization": f"Bearer {secret}"}

    return make
