"""What the monitor reads, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.actions.parts import Parts, assemble
from service.api.app import create_app
from service.contract.lifecycle import WorkerRole
from service.settings import Settings
from service.store import jobs, workers

MODEL = "tiny"


@pytest.fixture
def parts(database_url: str, tmp_path: Path) -> Iterator[Parts]:
    settings = Settings(data_dir=tmp_path, database_url_setting=database_url, served_name=MODEL)
    parts = assemble(settings)
    yield parts
    parts.close()


@pytest.fixture
def http(parts: Parts) -> FlaskClient:
    return create_app(parts=parts).test_client()


def metrics(http: FlaskClient) -> dict[str, float]:
    lines = [line for line in http.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_open_jobs_and_live_workers(http: FlaskClient, parts: Parts):
    for _ in range(3):
        http.post("/v1/jobs", json={"prompt": "Hello"})
    with parts.database.transaction() as db:
        worker = workers.register(db, WorkerRole.ENGINE, "here", [MODEL], "cpu")
        workers.set_model_state(db, worker, MODEL, "ready", "r1")
        workers.lose(db, workers.register(db, WorkerRole.IO, "there", [], None), "killed")
        jobs.claim(db, models=[MODEL], owner=worker, limit=1)
    seen = metrics(http)
    assert seen['sluice_jobs{class="bulk",state="queued"}'] == 2
    assert seen['sluice_jobs{class="bulk",state="running"}'] == 1
    assert seen['sluice_workers{role="engine"}'] == 1
    assert 'sluice_workers{role="io"}' not in seen


def test_metrics_count_requests_by_route_and_never_by_a_strangers_words(http: FlaskClient):
    for path in ("/v1/jobs/job_1", "/v1/jobs/job_2", "/made/up/by/a/stranger"):
        http.get(path)
    http.open("/v1/jobs", method="BREW")
    seen = metrics(http)
    assert seen['sluice_http_requests_total{method="GET",route="/v1/jobs/<job_id>",status="404"}'] == 2
    assert seen['sluice_http_requests_total{method="GET",route="unknown",status="404"}'] == 1
    assert not any("stranger" in name or "BREW" in name for name in seen)
