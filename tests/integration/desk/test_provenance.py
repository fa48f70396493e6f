"""Where a result came from: the model as loaded, the media as seen, and the device's time, failures included."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.actions.read_batches import get_batch
from service.actions.read_jobs import list_jobs
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.job_objects import JobObject
from service.contract.strict_json import parse_object
from service.store.tables import Result
from workers.device import Device

Eventually = Callable[[Callable[[], bool]], None]
REPOSITORY = Path(__file__).resolve().parents[3]
CLIP = next((REPOSITORY / "manifests").rglob("*.mp4"))


@pytest.fixture
def answered(
    parts: Parts, device: Device, tmp_path: Path, eventually: Eventually
) -> tuple[dict[str, JobObject], dict[str, dict[str, Any]], str]:
    """Jobs and their provenance by custom id, after one batch: a picture twice, a clip, a text, a broken picture."""
    Image.new("RGB", (640, 480), "red").save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "red.png").read_bytes()[:60])
    (tmp_path / "clip.mp4").write_bytes(CLIP.read_bytes())
    lines = [
        b'{"id": "picture", "image": "red.png", "prompt": "Describe this image."}\n',
        b'{"id": "clip", "video": "clip.mp4", "prompt": "Describe this video."}\n',
        b'{"custom_id": "text", "messages": [{"role": "user", "content": "Hello"}], "n": 2, "mood": "good"}\n',
        b'{"id": "broken", "image": "broken.png", "prompt": "Describe this image."}\n',
        b'{"id": "again", "image": "red.png", "prompt": "Describe this image."}\n',
    ]
    batch_id = submit_jobs(parts, Caller(), lines, BatchOptions(base_dir=str(tmp_path))).id
    ingest_manifest(parts, batch_id)
    device.start()
    eventually(lambda: get_batch(parts, Caller(), batch_id).status == "finalizing")
    with parts.database.reading() as db:
        found = dict(list(db.execute(select(Result.job_id, Result.provenance))))
    jobs = {job.custom_id or "": job for job in list_jobs(parts, Caller(), batch_id=batch_id).data}
    said = {name: parse_object(found[int(job.id[4:])] or b"{}") for name, job in jobs.items()}
    return jobs, said, batch_id


def test_every_result_says_where_it_came_from(
    parts: Parts, answered: tuple[dict[str, JobObject], dict[str, dict[str, Any]], str]
) -> None:
    jobs, said, batch_id = answered

    assert {name: provenance.get("ignored_fields") for name, provenance in said.items()} == {
        "picture": None,
        "clip": None,
        "text": ["mood"],
        "broken": None,
        "again": None,
    }
    for provenance in said.values():
        assert (provenance["model"], provenance["dtype"], provenance["device"]) == (
            "tiny-gemma4",
            "float32",
            "cpu",
        )
        assert provenance["revision"]
        assert provenance["attempt"] == 1
        assert provenance["queued_seconds"] >= 0
    (picture,) = said["picture"]["media"]
    assert (picture["kind"], picture["original_size"]) == ("image", [640, 480])
    assert picture["size"][0] * picture["size"][1] <= 640 * 480
    (clip,) = said["clip"]["media"]
    assert clip["kind"] == "video"
    assert 1 <= clip["num_frames"] <= clip["total_frames"]
    assert clip["seconds"] == pytest.approx(clip["total_frames"] / clip["fps"], rel=0.01)
    assert said["text"]["media"] == []

    assert jobs["broken"].status == "failed"
    assert said["broken"]["device_seconds"] == 0
    assert all(said[name]["device_seconds"] > 0 for name in ("picture", "clip", "text", "again"))
    assert said["picture"]["prepared_seconds"] > 0

    counted = [job.usage for job in jobs.values() if job.usage is not None]
    for usage in counted:
        details = usage["prompt_tokens_details"]
        by_kind = (details[f"{kind}_tokens"] for kind in ("text", "image", "video", "audio"))
        assert sum(by_kind) == usage["prompt_tokens"]
    whole = get_batch(parts, Caller(), batch_id).usage
    assert whole.input_tokens == sum(usage["prompt_tokens"] for usage in counted)
    assert whole.output_tokens == sum(usage["completion_tokens"] for usage in counted)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in counted)
    assert whole.input_tokens_details.cached_tokens == cached
